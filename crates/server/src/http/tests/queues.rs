//! The lock and election services.

use super::*;
use proto::etcdserverpb::LeaseRevokeRequest;
use proto::v3electionpb::election_client::ElectionClient;
use proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use proto::v3lockpb::lock_client::LockClient;
use proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use tokio::task::JoinHandle;

const SOON: Duration = Duration::from_millis(200);

struct Client {
    locks: LockClient<Channel>,
    elections: ElectionClient<Channel>,
    leases: LeaseClient<Channel>,
    kv: KvClient<Channel>,
}

impl Client {
    async fn of(port: &Port) -> Client {
        let channel = port.channel().await;
        let mut client = Client {
            locks: LockClient::new(channel.clone()),
            elections: ElectionClient::new(channel.clone()),
            leases: LeaseClient::new(channel.clone()),
            kv: KvClient::new(channel),
        };
        for id in 1..=3 {
            let grant = LeaseGrantRequest { ttl: 600, id };
            client.leases.lease_grant(grant).await.unwrap();
        }
        client
    }

    /// Asks for a lock in the background.
    fn locking(&self, lease: i64) -> JoinHandle<Result<LockResponse, tonic::Status>> {
        let mut locks = self.locks.clone();
        tokio::spawn(async move { Ok(locks.lock(lock("job", lease)).await?.into_inner()) })
    }

    async fn unlock(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.locks.unlock(UnlockRequest { key }).await.unwrap();
    }

    async fn revoke(&mut self, id: i64) {
        let revoke = LeaseRevokeRequest { id };
        self.leases.lease_revoke(revoke).await.unwrap();
    }

    /// The keys in a queue, as text, in the order of their creation.
    async fn queue(&mut self, name: &str) -> Vec<String> {
        let request = RangeRequest {
            key: format!("{name}/").into(),
            range_end: format!("{name}0").into(),
            sort_target: 2,
            ..Default::default()
        };
        let kvs = self.kv.range(request).await.unwrap().into_inner().kvs;
        let keys = kvs.into_iter().map(|kv| kv.key.to_vec());
        keys.map(|key| String::from_utf8(key).unwrap()).collect()
    }

    /// Waits until the queue is this one.
    async fn queue_becomes(&mut self, name: &str, expected: &[&str]) {
        for _ in 0..100 {
            if self.queue(name).await == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{:?}, not {expected:?}", self.queue(name).await);
    }
}

fn lock(name: &'static str, lease: i64) -> LockRequest {
    LockRequest {
        name: name.into(),
        lease,
    }
}

/// A test that waits for ever tells nobody what it waits for.
#[track_caller]
fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        tokio::time::timeout(Duration::from_secs(10), future)
            .await
            .unwrap_or_else(|_| panic!("nothing came at {caller}"))
    }
}

fn refusal(status: &tonic::Status) -> (Code, &str) {
    (status.code(), status.message())
}

#[tokio::test]
async fn lock_goes_to_the_oldest_waiter() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    let first = client.locking(1).await.unwrap().unwrap();
    assert_eq!(first.key, "job/1");
    let second = client.locking(2);
    client.queue_becomes("job", &["job/1", "job/2"]).await;
    let third = client.locking(3);
    client
        .queue_becomes("job", &["job/1", "job/2", "job/3"])
        .await;
    // Who holds it already gets it again.
    assert_eq!(client.locking(1).await.unwrap().unwrap().key, "job/1");
    client.unlock("job/1").await;
    let second = second.await.unwrap().unwrap();
    assert_eq!(second.key, "job/2");
    assert!(second.header.unwrap().revision > first.header.unwrap().revision);
    tokio::time::sleep(SOON).await;
    assert!(!third.is_finished());
    client.revoke(2).await;
    assert_eq!(third.await.unwrap().unwrap().key, "job/3");
}

#[tokio::test]
async fn waiter_that_gives_up_leaves_the_queue() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    client.locking(1).await.unwrap().unwrap();
    let second = client.locking(2);
    client.queue_becomes("job", &["job/1", "job/2"]).await;
    let third = client.locking(3);
    client
        .queue_becomes("job", &["job/1", "job/2", "job/3"])
        .await;
    second.abort();
    client.queue_becomes("job", &["job/1", "job/3"]).await;
    let mut hurried = Request::new(lock("job", 2));
    hurried.set_timeout(SOON);
    let refused = client.locks.lock(hurried).await.unwrap_err();
    assert!(
        [Code::DeadlineExceeded, Code::Cancelled].contains(&refused.code()),
        "{refused:?}"
    );
    client.queue_becomes("job", &["job/1", "job/3"]).await;
    client.unlock("job/1").await;
    assert_eq!(third.await.unwrap().unwrap().key, "job/3");
}

#[tokio::test]
async fn waiter_whose_lease_ends_hears_of_it() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    client.locking(1).await.unwrap().unwrap();
    let second = client.locking(2);
    client.queue_becomes("job", &["job/1", "job/2"]).await;
    client.revoke(2).await;
    let refused = second.await.unwrap().unwrap_err();
    assert_eq!(
        refusal(&refused),
        (Code::Unknown, "mutex: session is expired")
    );
}

#[tokio::test]
async fn lock_refusals_are_etcds() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    let refused = client.locking(99).await.unwrap().unwrap_err();
    assert_eq!(
        refusal(&refused),
        (Code::Unknown, "etcdserver: requested lease not found")
    );
    let refused = client.locks.unlock(UnlockRequest::default()).await;
    assert_eq!(
        refusal(&refused.unwrap_err()),
        (Code::Unknown, "etcdserver: key is not provided")
    );
    // Without a lease it gets one of a minute.
    let answer = client.locks.lock(lock("own", 0)).await.unwrap();
    let key = String::from_utf8(answer.into_inner().key.to_vec()).unwrap();
    let id = i64::from_str_radix(key.strip_prefix("own/").unwrap(), 16).unwrap();
    let ask = LeaseTimeToLiveRequest { id, keys: true };
    let lease = client.leases.lease_time_to_live(ask).await.unwrap();
    assert_eq!(lease.get_ref().granted_ttl, 60);
    assert_eq!(lease.get_ref().keys, [key]);
}

fn campaign(lease: i64, value: &'static str) -> CampaignRequest {
    CampaignRequest {
        name: "chief".into(),
        lease,
        value: value.into(),
    }
}

fn ask() -> LeaderRequest {
    LeaderRequest {
        name: "chief".into(),
    }
}

#[tokio::test]
async fn election_is_won_in_order_and_observed() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    let refused = client.elections.leader(ask()).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unknown, "election: no leader"));
    let mut observed = soon(client.elections.observe(ask()))
        .await
        .unwrap()
        .into_inner();

    let won = soon(client.elections.campaign(campaign(1, "a")))
        .await
        .unwrap();
    let leader = won.into_inner().leader.unwrap();
    assert_eq!((&leader.key[..], leader.lease), (&b"chief/1"[..], 1));
    let mut elections = client.elections.clone();
    let second = tokio::spawn(async move { elections.campaign(campaign(2, "b")).await });
    client.queue_becomes("chief", &["chief/1", "chief/2"]).await;
    let told = ProclaimRequest {
        leader: Some(leader.clone()),
        value: "a2".into(),
    };
    client.elections.proclaim(told.clone()).await.unwrap();
    let now = client.elections.leader(ask()).await.unwrap().into_inner();
    assert_eq!(now.kv.unwrap().value, "a2");
    let resign = ResignRequest {
        leader: Some(leader),
    };
    client.elections.resign(resign).await.unwrap();
    let second = soon(second).await.unwrap().unwrap().into_inner();
    assert_eq!(second.leader.unwrap().key, "chief/2");
    let refused = client.elections.proclaim(told).await.unwrap_err();
    assert_eq!(refusal(&refused), (Code::Unknown, "election: not leader"));

    for expected in ["a", "a2", "b"] {
        let heard = soon(observed.message()).await.unwrap().unwrap();
        let kv = heard.kv.unwrap();
        assert_eq!(kv.value, expected);
        assert!(heard.header.unwrap().revision >= kv.mod_revision);
    }
    client.revoke(2).await;
    soon(client.elections.campaign(campaign(3, "c")))
        .await
        .unwrap();
    let heard = soon(observed.message()).await.unwrap().unwrap();
    assert_eq!(heard.kv.unwrap().value, "c");
}

#[tokio::test]
async fn candidate_that_comes_back_tells_its_new_value() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    client.elections.campaign(campaign(1, "a")).await.unwrap();
    client.elections.campaign(campaign(1, "b")).await.unwrap();
    let now = client.elections.leader(ask()).await.unwrap().into_inner();
    let kv = now.kv.unwrap();
    assert_eq!((&kv.value[..], kv.version), (&b"b"[..], 2));
}

#[tokio::test]
async fn election_refusals_are_etcds() {
    let port = start().await;
    let mut client = Client::of(&port).await;
    let missing = (Code::Unknown, "\"leader\" field must be provided");
    let refused = client.elections.proclaim(ProclaimRequest::default()).await;
    assert_eq!(refusal(&refused.unwrap_err()), missing);
    let refused = client.elections.resign(ResignRequest::default()).await;
    assert_eq!(refusal(&refused.unwrap_err()), missing);
    // Nobody's place is nobody's loss.
    let nobody = LeaderKey {
        name: "chief".into(),
        key: "chief/1".into(),
        rev: 5,
        lease: 1,
    };
    let resign = ResignRequest {
        leader: Some(nobody),
    };
    assert!(client.elections.resign(resign).await.is_ok());
}

#[tokio::test]
async fn gateway_locks_and_observes() {
    let port = start().await;
    let answer = port
        .post("/v3/election/campaign", r#"{"name":"ZWw=","value":"dg=="}"#)
        .await;
    assert!(
        answer.contains(r#""leader":{"name":"ZWw=","key":"ZWwv"#),
        "{answer}"
    );
    let answer = port
        .post("/v3/lock/lock", r#"{"name":"bA==","lease":9}"#)
        .await;
    assert!(
        answer.starts_with("HTTP/1.1 500 ")
            && answer.contains(r#""code":2,"message":"etcdserver: requested lease not found""#),
        "{answer}"
    );
    let body = r#"{"name":"ZWw="}"#;
    let length = body.len();
    let mut stream = TcpStream::connect(port.address).await.unwrap();
    let request = format!(
        "POST /v3/election/observe HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut heard = String::new();
    while !heard.contains("}}}\n") {
        let mut bytes = [0; 1024];
        let read = stream.read(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "{heard}");
        heard.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
    }
    assert!(heard.contains(r#"{"result":{"header":{"#), "{heard}");
    assert!(heard.contains(r#""value":"dg==""#), "{heard}");
}
