//! The client without async: `cargo run -p synod-client --features blocking --example blocking`.

use std::error::Error;
use std::time::Duration;
use synod_client::blocking::{Client, Kv, Mutex, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client, Duration::from_secs(10))?;
    let guard = Mutex::new(&session, "nightly").lock()?;
    guard.on_lost(|reason| eprintln!("stop: {reason}"));
    println!("it is ours, with the token {}", guard.token());
    Kv::new(&client)
        .guarded(&guard)
        .put("nightly/last", "today")?;
    guard.release()?;
    session.close()?;
    Ok(())
}
