//! Many readers or one writer: `cargo run -p synod-client --example rwlock`.

use std::error::Error;
use std::time::Duration;
use synod_client::{Client, RwLock, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let lock = RwLock::new(&session, "catalogue");

    let first = lock.read().await?;
    let second = lock.read().await?;
    println!(
        "two read, with the tokens {} and {}",
        first.token(),
        second.token()
    );
    let writer = lock.write_within(Duration::from_millis(100)).await?;
    assert!(writer.is_none(), "nobody writes meanwhile");

    first.release().await?;
    second.release().await?;
    let writer = lock.write().await?;
    println!("one writes, with the token {}", writer.token());
    session.close().await?;
    Ok(())
}
