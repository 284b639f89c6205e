//! What a client sees of a member that stops.

use super::*;

#[tokio::test]
async fn stop_ends_streams_with_a_status() {
    let port = start().await;
    let mut watching = Watching::open(&port).await;
    watching.create(all_keys());
    assert!(watching.hear().await.created);
    drop(port.stop);
    let ended = watching.hear.message().await.unwrap_err();
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::Unavailable, "etcdserver: server stopped")
    );
}
