//! The first program of README.md: `cargo run -p synod-client --example first`, with `synod dev` running.

use synod_client::{Client, Mutex, Session};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let guard = Mutex::new(&session, "nightly").lock().await?;
    println!("it is ours, with the token {}", guard.token());
    guard.release().await?;
    Ok(())
}
