//! Hears of changes without gap or repeat, whatever members come and go: `cargo run -p synod-client --example watch`, and `synod put svc/a b` elsewhere.

use std::error::Error;
use synod_client::Client;
use synod_client::proto::etcdserverpb::WatchCreateRequest;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let client = Client::new(["127.0.0.1:2379", "127.0.0.1:22379", "127.0.0.1:32379"])?;
    let mut watch = client.watch(WatchCreateRequest {
        key: "svc/".into(),
        range_end: "svc0".into(),
        ..WatchCreateRequest::default()
    });
    while let Some(answer) = watch.next().await? {
        for event in answer.events {
            println!("{event:?}");
        }
    }
    Ok(())
}
