//! A name that one program has as long as it renews it: `cargo run -p synod-client --example named_lease`.

use std::error::Error;
use std::time::Duration;
use synod_client::{Client, Kv, NamedLease, lease};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let ttl = Duration::from_secs(30);
    let Some(printer) = NamedLease::register(&client, "printer", ttl, "second floor").await? else {
        println!("another one is the printer");
        return Ok(());
    };
    // Applied only while the name is ours.
    let kv = Kv::new(&client).fenced(printer.fence());
    kv.put("printer/pages", "0").await?;
    printer.refresh().await?;
    // Whoever knows the name can do that: a script, or this program in its next life.
    let left = lease::refresh(&client, "printer").await?;
    println!("the printer, for {left:?} more");
    printer.end().await?;
    Ok(())
}
