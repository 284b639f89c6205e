//! Wait until others are done: `cargo run -p synod-client --example latch`.

use std::error::Error;
use synod_client::{Client, Latch, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let loaded = Latch::new(&session, "tables-loaded");
    loaded.set(3).await?;
    let work = async {
        for table in ["customers", "orders", "prices"] {
            println!("{table} loaded, {} to go", loaded.count_down().await?);
        }
        Ok(())
    };
    tokio::try_join!(work, loaded.wait())?;
    println!("all are loaded");
    session.close().await?;
    Ok(())
}
