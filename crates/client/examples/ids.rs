//! Identifiers that are never given out twice: `cargo run -p synod-client --release --example ids`.

use std::error::Error;
use std::time::Instant;
use synod_client::{Client, Ids, Segments, Session};

const NUMBERS: u32 = 10_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;

    let ids = Ids::new(&session);
    let id = ids.next().await?;
    println!("{id} says {:?}", ids.parts(id));

    let invoices = Segments::new(&session, "invoices", 1_000_000);
    let began = Instant::now();
    for _ in 0..NUMBERS {
        invoices.next().await?;
    }
    let rate = f64::from(NUMBERS) / began.elapsed().as_secs_f64();
    println!("{:.1} million numbers a second", rate / 1e6);
    session.close().await?;
    Ok(())
}
