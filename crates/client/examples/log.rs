//! Records in one order for everybody: `cargo run -p synod-client --example log`. Start it several times at once.

use std::error::Error;
use synod_client::{Client, Log, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let log = Log::new(&session, "decisions");
    let mut last = 0;
    for step in 1..=3 {
        let text = format!("process {} says {step}", std::process::id());
        last = log.append(text).await?;
    }
    let mut reader = log.read(0);
    loop {
        let record = reader.next().await?;
        println!(
            "{}: {}",
            record.position,
            String::from_utf8_lossy(&record.value)
        );
        if record.position == last {
            break;
        }
    }
    session.close().await?;
    Ok(())
}
