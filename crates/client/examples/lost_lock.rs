//! Stops in time: `cargo run -p synod-client --example lost_lock`. While it works, end the members or take the lock away with
//! `synod lock release nightly --force --reason test`.

use std::error::Error;
use std::time::Duration;
use synod_client::{Client, Mutex, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open_with_ttl(&client, Duration::from_secs(3)).await?;
    let guard = Mutex::new(&session, "nightly").lock().await?;
    tokio::select! {
        // Comes while nobody else can have the lock yet.
        reason = guard.lost() => println!("stopped: {reason}"),
        () = work() => println!("all done"),
    }
    Ok(())
}

async fn work() {
    for step in 1..=10 {
        println!("step {step}");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
