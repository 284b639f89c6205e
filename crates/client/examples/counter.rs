//! A number that many add to: `cargo run -p synod-client --example counter`.

use std::error::Error;
use synod_client::{Client, Counter, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let visits = Counter::new(&session, "visits");
    println!("visit number {}", visits.add(1).await?);
    session.close().await?;
    Ok(())
}
