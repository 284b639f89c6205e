//! A copy of some keys that is kept up to date: `cargo run -p synod-client --example cache`.

use std::error::Error;
use synod_client::{Cache, Client, Kv};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let cache = Cache::open(&client, "config/").await?;
    let revision = Kv::new(&client).put("config/colour", "blue").await?;
    cache.reaches(revision).await;
    // This asks nobody.
    for kv in cache.all() {
        println!(
            "{} = {}",
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value)
        );
    }
    Ok(())
}
