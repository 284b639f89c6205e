//! How fresh a read must be: `cargo run -p synod-client --example levels`.

use std::error::Error;
use std::time::Duration;
use synod_client::{Client, Kv, Level};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let kv = Kv::new(&client);
    kv.put("picture/7", "a picture").await?;

    for level in [
        Level::Linearizable,
        Level::ReadYourWrites,
        Level::Bounded(Duration::from_secs(2)),
        Level::Local,
    ] {
        let found = kv.at(level.clone()).get("picture/7").await?;
        println!("{level:?}: {}", found.is_some());
    }

    // Another program that is told "picture 7 is there" with this stamp sees it, at whichever member it asks.
    let stamp = kv.stamp().expect("something was written");
    let other = Kv::new(&Client::new(["127.0.0.1:22379"])?);
    let found = other.at(Level::AtLeast(stamp)).get("picture/7").await?;
    println!("elsewhere: {}", found.is_some());
    Ok(())
}
