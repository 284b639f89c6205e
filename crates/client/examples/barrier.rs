//! Begin together, end together: `cargo run -p synod-client --example barrier`.

use std::error::Error;
use synod_client::{Barrier, Client, ClientError, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    tokio::try_join!(
        one(&session, "first"),
        one(&session, "second"),
        one(&session, "third")
    )?;
    session.close().await?;
    Ok(())
}

async fn one(session: &Session, name: &str) -> Result<(), ClientError> {
    let inside = Barrier::new(session, "load-test", 3).enter().await?;
    println!("{name} begins");
    inside.leave().await?;
    println!("{name} ends");
    Ok(())
}
