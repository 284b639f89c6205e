//! One leader at a time: `cargo run -p synod-client --example election`. Start it twice, and end the first.

use std::error::Error;
use std::time::Duration;
use synod_client::{Client, Election, Session};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let session = Session::open(&client).await?;
    let election = Election::new(&session, "scheduler");
    if let Some(leader) = election.leader().await? {
        println!("{} leads, and this one waits", leader.text);
    }

    let word = format!("process {}", std::process::id());
    let leadership = election.campaign(&word).await?;
    println!("{word} leads, with the token {}", leadership.token());
    leadership.proclaim(&format!("{word}, busy")).await?;
    tokio::select! {
        reason = leadership.lost() => println!("not any more: {reason}"),
        () = tokio::time::sleep(Duration::from_secs(5)) => leadership.resign().await?,
    }
    session.close().await?;
    Ok(())
}
