//! So many at a time: `cargo run -p synod-client --example semaphore`.

use std::error::Error;
use synod_client::{Client, Semaphore, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let builds = Semaphore::new(&session, "builds", 4);

    let large = builds.acquire(3).await?;
    let small = builds.acquire(1).await?;
    assert!(
        builds.try_acquire(1).await?.is_none(),
        "all four are in use"
    );
    large.release().await?;
    let next = builds.try_acquire(2).await?;
    println!("free again: {}", next.is_some());
    small.release().await?;
    session.close().await?;
    Ok(())
}
