//! Names that one has and nobody else: `cargo run -p synod-client --example unique`.

use std::error::Error;
use synod_client::{Claim, Client, Session, Unique};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let names = Unique::new(&session, "user-names");
    assert_eq!(names.claim("ann", "customer 7").await?, Claim::Ours);
    assert_eq!(
        names.claim("ann", "customer 7").await?,
        Claim::Ours,
        "it stays so"
    );
    match names.claim("ann", "customer 8").await? {
        Claim::Ours => unreachable!("it is customer 7's"),
        Claim::Theirs { owner } => println!("taken by {}", String::from_utf8_lossy(&owner)),
    }
    session.close().await?;
    Ok(())
}
