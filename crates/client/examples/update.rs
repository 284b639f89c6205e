//! Changes a value by looking at it, as often as others are faster: `cargo run -p synod-client --example update`.

use serde::{Deserialize, Serialize};
use std::error::Error;
use synod_client::{Client, Kv};

#[derive(Debug, Default, Serialize, Deserialize)]
struct Account {
    balance: i64,
    entries: u32,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let kv = Kv::new(&client);
    let account = kv.update_as("accounts/ann", |known: Option<Account>| {
        let mut account = known.unwrap_or_default();
        account.balance += 100;
        account.entries += 1;
        account
    });
    println!("{:?}", account.await?);
    Ok(())
}
