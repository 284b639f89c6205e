//! Who is there: `cargo run -p synod-client --example group`. Start it several times.

use std::error::Error;
use std::time::Duration;
use synod_client::{Client, Group, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let group = Group::new(&session, "workers");
    let attributes = [("process".to_owned(), std::process::id().to_string())].into();
    let membership = group.join(&attributes).await?;

    let mut members = group.observe();
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while let Ok(known) = tokio::time::timeout_at(end, members.next()).await {
        let all: Vec<_> = known?.values().map(|member| &member.attributes).collect();
        println!("{} are here: {all:?}", all.len());
    }
    membership.leave().await?;
    session.close().await?;
    Ok(())
}
