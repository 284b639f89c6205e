//! One at a time: `cargo run -p synod-client --example mutex`, with a member at 127.0.0.1:2379 (`synod dev`). Run it twice at the same time.

use std::error::Error;
use synod_client::{Client, Kv, Mutex, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let guard = Mutex::new(&session, "nightly").lock().await?;
    println!("it is ours, with the token {}", guard.token());

    // Applied only while the lock is held: if this process is stopped here for longer than its session lives, the write is refused.
    let kv = Kv::of(&session).guarded(&guard);
    let runs = kv.update_as("nightly/runs", |runs: Option<u64>| runs.unwrap_or(0) + 1);
    println!("run number {}", runs.await?);

    guard.release().await?;
    session.close().await?;
    Ok(())
}
