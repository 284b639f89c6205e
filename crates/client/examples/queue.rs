//! Things to do, each of which one takes: `cargo run -p synod-client --example queue`.

use std::error::Error;
use synod_client::{Client, Queue, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let mut jobs = Queue::new(&session, "jobs");
    for job in ["wash", "rinse", "spin"] {
        jobs.push(job).await?;
    }
    while let Some(job) = jobs.try_pop().await? {
        println!("{}", String::from_utf8_lossy(&job));
    }
    session.close().await?;
    Ok(())
}
