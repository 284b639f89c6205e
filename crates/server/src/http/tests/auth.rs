//! Users, roles, passwords and tokens, as clients meet them.

use super::*;
use crate::auth::{AuthSettings, Authenticator, Credentials, TokenSettings};
use proto::authpb::{Permission, UserAddOptions};
use proto::etcdserverpb::auth_client::AuthClient;
use proto::etcdserverpb::cluster_client::ClusterClient;
use proto::etcdserverpb::*;
use proto::synod::v1;
use proto::synod::v1::lock_client::LockClient;
use std::time::Duration;

/// Like those of every member, with passwords that are cheap to hash.
pub(super) fn users() -> Arc<Authenticator> {
    users_with_ttl(Duration::from_secs(300))
}

fn users_with_ttl(ttl: Duration) -> Arc<Authenticator> {
    let settings = AuthSettings {
        token: TokenSettings::Simple,
        ttl,
        bcrypt_cost: 4,
    };
    Arc::new(Authenticator::new(&settings).expect("simple tokens need no key files"))
}

/// A request with a token.
fn with<M>(token: &str, message: M) -> Request<M> {
    let mut request = Request::new(message);
    if !token.is_empty() {
        let token = token.parse().expect("a token is text");
        request.metadata_mut().insert("token", token);
    }
    request
}

fn refusal(status: &tonic::Status) -> (Code, &str) {
    (status.code(), status.message())
}

const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const INVALID: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");

/// A port with authentication on: `root`, and `ann`, who may read and write keys that begin with `a`.
struct Guarded {
    port: Port,
    auth: AuthClient<Channel>,
    root: String,
    ann: String,
}

impl Guarded {
    async fn start(users: Arc<Authenticator>) -> Guarded {
        let port = start_with(users).await;
        let mut auth = AuthClient::new(port.channel().await);
        for name in ["root", "ann"] {
            let user = AuthUserAddRequest {
                name: name.into(),
                password: format!("{name}'s"),
                ..Default::default()
            };
            auth.user_add(user).await.unwrap();
        }
        let role = AuthRoleAddRequest { name: "app".into() };
        auth.role_add(role).await.unwrap();
        let permission = Permission {
            perm_type: proto::authpb::permission::Type::Readwrite.into(),
            key: "a".into(),
            range_end: "b".into(),
        };
        auth.role_grant_permission(AuthRoleGrantPermissionRequest {
            name: "app".into(),
            perm: Some(permission),
        })
        .await
        .unwrap();
        for (user, role) in [("root", "root"), ("ann", "app")] {
            auth.user_grant_role(AuthUserGrantRoleRequest {
                user: user.into(),
                role: role.into(),
            })
            .await
            .unwrap();
        }
        auth.auth_enable(AuthEnableRequest {}).await.unwrap();
        let mut guarded = Guarded {
            port,
            auth,
            root: String::new(),
            ann: String::new(),
        };
        guarded.root = guarded.log_in("root").await.unwrap();
        guarded.ann = guarded.log_in("ann").await.unwrap();
        guarded
    }

    async fn log_in(&mut self, name: &str) -> Result<String, tonic::Status> {
        let request = AuthenticateRequest {
            name: name.into(),
            password: format!("{name}'s"),
        };
        Ok(self.auth.authenticate(request).await?.into_inner().token)
    }

    async fn put(&self, token: &str, key: &str) -> Result<(), tonic::Status> {
        self.put_with_lease(token, key, 0).await
    }

    async fn put_with_lease(
        &self,
        token: &str,
        key: &str,
        lease: i64,
    ) -> Result<(), tonic::Status> {
        let put = PutRequest {
            key: key.to_owned().into(),
            lease,
            ..Default::default()
        };
        let mut kv = self.port.kv().await;
        kv.put(with(token, put)).await.map(|_| ())
    }

    /// Creates a watch and gives the first response.
    async fn watch(&self, token: &str, key: &str) -> WatchResponse {
        let create = WatchCreateRequest {
            key: key.to_owned().into(),
            ..Default::default()
        };
        let request = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(create)),
        };
        let requests = tokio_stream::once(request);
        let mut watch = WatchClient::new(self.port.channel().await);
        let responses = watch.watch(with(token, requests)).await.unwrap();
        responses.into_inner().message().await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn keys_are_for_those_who_may() {
    let guarded = Guarded::start(users()).await;
    guarded.put(&guarded.ann, "a1").await.unwrap();
    guarded.put(&guarded.root, "c1").await.unwrap();
    let refused = async |token: &str, key: &str| guarded.put(token, key).await.unwrap_err();
    assert_eq!(refusal(&refused(&guarded.ann, "c1").await), DENIED);
    assert_eq!(refusal(&refused("", "a1").await), EMPTY);
    assert_eq!(refusal(&refused("nonsense.12", "a1").await), INVALID);
    let mut kv = guarded.port.kv().await;
    for (serializable, key) in [(false, "c1"), (true, "c1"), (false, "none")] {
        let range = RangeRequest {
            serializable,
            ..range(key)
        };
        let refused = kv.range(with(&guarded.ann, range)).await.unwrap_err();
        assert_eq!(refusal(&refused), DENIED, "{key}");
    }
    assert!(kv.range(with(&guarded.ann, range("a1"))).await.is_ok());
    // The header that JSON clients use counts as well.
    let mut request = Request::new(range("a1"));
    let token = guarded.ann.parse().unwrap();
    request.metadata_mut().insert("authorization", token);
    assert!(kv.range(request).await.is_ok());
}

#[tokio::test]
async fn watches_are_refused_in_the_words_that_go_prints() {
    let guarded = Guarded::start(users()).await;
    assert!(!guarded.watch(&guarded.ann, "a1").await.canceled);
    for (token, key, reason) in [
        (
            &guarded.ann[..],
            "c1",
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (
            "",
            "a1",
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
        (
            "x",
            "a1",
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
    ] {
        let refused = guarded.watch(token, key).await;
        assert!(refused.canceled && refused.created && refused.watch_id == -1);
        assert_eq!(refused.cancel_reason, reason);
    }
}

#[tokio::test]
async fn leases_need_a_user_and_their_keys_permission() {
    let guarded = Guarded::start(users()).await;
    let mut leases = LeaseClient::new(guarded.port.channel().await);
    let grant = || LeaseGrantRequest { ttl: 60, id: 0 };
    let refused = leases.lease_grant(with("", grant())).await.unwrap_err();
    assert_eq!(refusal(&refused), EMPTY);
    let granted = leases.lease_grant(with(&guarded.ann, grant())).await;
    let id = granted.unwrap().into_inner().id;
    let mut keep_alive = async |token: &str| {
        let renewal = tokio_stream::once(LeaseKeepAliveRequest { id });
        let answers = leases.lease_keep_alive(with(token, renewal)).await?;
        answers.into_inner().message().await
    };
    assert_eq!(keep_alive(&guarded.ann).await.unwrap().unwrap().ttl, 60);
    assert_eq!(refusal(&keep_alive("").await.unwrap_err()), EMPTY);
    assert_eq!(refusal(&keep_alive("x").await.unwrap_err()), INVALID);
    // A key of somebody else on the lease: it is no longer ann's to end, to use or to look into.
    guarded
        .put_with_lease(&guarded.root, "c1", id)
        .await
        .unwrap();
    let refused = guarded.put_with_lease(&guarded.ann, "a1", id).await;
    assert_eq!(refusal(&refused.unwrap_err()), DENIED);
    let ttl = |keys| LeaseTimeToLiveRequest { id, keys };
    let refused = leases
        .lease_time_to_live(with(&guarded.ann, ttl(true)))
        .await;
    assert_eq!(refusal(&refused.unwrap_err()), DENIED);
    assert!(
        leases
            .lease_time_to_live(with(&guarded.ann, ttl(false)))
            .await
            .is_ok()
    );
    let refused = leases
        .lease_leases(with(&guarded.ann, LeaseLeasesRequest {}))
        .await;
    assert_eq!(refusal(&refused.unwrap_err()), DENIED);
    let revoke = || LeaseRevokeRequest { id };
    let refused = leases.lease_revoke(with(&guarded.ann, revoke())).await;
    assert_eq!(refusal(&refused.unwrap_err()), DENIED);
    assert!(
        leases
            .lease_revoke(with(&guarded.root, revoke()))
            .await
            .is_ok()
    );
    assert!(
        leases
            .lease_leases(with(&guarded.ann, LeaseLeasesRequest {}))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn the_cluster_is_for_administrators() {
    let guarded = Guarded::start(users()).await;
    let channel = guarded.port.channel().await;
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let mut cluster = ClusterClient::new(channel);
    let compact = || CompactionRequest::default();
    let mut kv = guarded.port.kv().await;
    for (token, expected) in [(&guarded.ann[..], DENIED), ("", EMPTY), ("x", INVALID)] {
        let refused = [
            maintenance
                .status(with(token, StatusRequest {}))
                .await
                .map(drop),
            maintenance
                .hash_kv(with(token, HashKvRequest::default()))
                .await
                .map(drop),
            maintenance
                .defragment(with(token, DefragmentRequest {}))
                .await
                .map(drop),
            maintenance
                .snapshot(with(token, SnapshotRequest {}))
                .await
                .map(drop),
            maintenance
                .move_leader(with(token, MoveLeaderRequest::default()))
                .await
                .map(drop),
            cluster
                .member_add(with(token, MemberAddRequest::default()))
                .await
                .map(drop),
            kv.compact(with(token, compact())).await.map(drop),
        ];
        for outcome in refused {
            assert_eq!(refusal(&outcome.unwrap_err()), expected);
        }
    }
    assert!(
        maintenance
            .status(with(&guarded.root, StatusRequest {}))
            .await
            .is_ok()
    );
    let list = || MemberListRequest::default();
    assert!(
        cluster
            .member_list(with(&guarded.ann, list()))
            .await
            .is_ok()
    );
    let refused = cluster.member_list(with("", list())).await.unwrap_err();
    assert_eq!(refusal(&refused), EMPTY);
    assert!(
        maintenance
            .alarm(with(&guarded.ann, AlarmRequest::default()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn users_see_themselves_and_administrators_all() {
    let mut guarded = Guarded::start(users()).await;
    let (root, ann) = (guarded.root.clone(), guarded.ann.clone());
    let get = |name: &str| AuthUserGetRequest { name: name.into() };
    let own = guarded.auth.user_get(with(&ann, get("ann"))).await.unwrap();
    assert_eq!(own.into_inner().roles, ["app"]);
    let refused = guarded.auth.user_get(with(&ann, get("root"))).await;
    assert_eq!(refusal(&refused.unwrap_err()), DENIED);
    let role = |role: &str| AuthRoleGetRequest { role: role.into() };
    assert!(guarded.auth.role_get(with(&ann, role("app"))).await.is_ok());
    let refused = guarded.auth.role_get(with(&ann, role("root"))).await;
    assert_eq!(refusal(&refused.unwrap_err()), DENIED);
    for (token, expected) in [(&ann[..], DENIED), ("", EMPTY)] {
        let refused = guarded
            .auth
            .user_list(with(token, AuthUserListRequest {}))
            .await;
        assert_eq!(refusal(&refused.unwrap_err()), expected);
        let refused = guarded
            .auth
            .role_list(with(token, AuthRoleListRequest {}))
            .await;
        assert_eq!(refusal(&refused.unwrap_err()), expected);
        let refused = guarded
            .auth
            .auth_status(with(token, AuthStatusRequest {}))
            .await;
        assert_eq!(refusal(&refused.unwrap_err()), expected);
        let refused = guarded
            .auth
            .user_add(with(token, AuthUserAddRequest::default()))
            .await;
        assert_eq!(refusal(&refused.unwrap_err()), expected);
    }
    let users = guarded
        .auth
        .user_list(with(&root, AuthUserListRequest {}))
        .await;
    assert_eq!(users.unwrap().into_inner().users, ["ann", "root"]);
    let status = guarded
        .auth
        .auth_status(with(&root, AuthStatusRequest {}))
        .await;
    let status = status.unwrap().into_inner();
    // Six changes since 1; switching on is none.
    assert_eq!((status.enabled, status.auth_revision), (true, 7));
}

#[tokio::test]
async fn tokens_are_void_when_their_password_user_or_time_is_gone() {
    let mut guarded = Guarded::start(users()).await;
    let (root, ann) = (guarded.root.clone(), guarded.ann.clone());
    // Other changes of users and roles leave them alone.
    let role = AuthRoleAddRequest {
        name: "more".into(),
    };
    guarded.auth.role_add(with(&root, role)).await.unwrap();
    guarded.put(&ann, "a1").await.unwrap();
    let change = AuthUserChangePasswordRequest {
        name: "ann".into(),
        password: "new".into(),
        ..Default::default()
    };
    guarded
        .auth
        .user_change_password(with(&root, change))
        .await
        .unwrap();
    for _ in 0..2 {
        let refused = guarded.put(&ann, "a1").await.unwrap_err();
        assert_eq!(refusal(&refused), INVALID, "and it stays so");
    }
    let refused = guarded.log_in("ann").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert_eq!(
        refused.message(),
        "etcdserver: authentication failed, invalid user ID or password"
    );
    let delete = AuthUserDeleteRequest { name: "ann".into() };
    guarded.auth.user_delete(with(&root, delete)).await.unwrap();
    let add = AuthUserAddRequest {
        name: "ann".into(),
        password: "ann's".into(),
        ..Default::default()
    };
    guarded.auth.user_add(with(&root, add)).await.unwrap();
    assert_eq!(
        refusal(&guarded.put(&ann, "a1").await.unwrap_err()),
        INVALID,
        "the same name and password are not the same user"
    );
    guarded
        .auth
        .auth_disable(with(&root, AuthDisableRequest {}))
        .await
        .unwrap();
    guarded.put("", "c1").await.unwrap();
    let refused = guarded.log_in("root").await.unwrap_err();
    assert_eq!(
        refused.message(),
        "etcdserver: authentication is not enabled"
    );
    guarded
        .auth
        .auth_enable(AuthEnableRequest {})
        .await
        .unwrap();
    assert_eq!(
        refusal(&guarded.put(&root, "c1").await.unwrap_err()),
        INVALID
    );
    let root = guarded.log_in("root").await.unwrap();
    guarded.put(&root, "c1").await.unwrap();
}

#[tokio::test]
async fn use_extends_a_token_and_idleness_ends_it() {
    let ttl = Duration::from_secs(1);
    let mut guarded = Guarded::start(users_with_ttl(ttl)).await;
    let ann = guarded.log_in("ann").await.unwrap();
    for _ in 0..6 {
        tokio::time::sleep(ttl * 2 / 5).await;
        guarded.put(&ann, "a1").await.unwrap();
    }
    tokio::time::sleep(ttl + ttl / 10).await;
    assert_eq!(
        refusal(&guarded.put(&ann, "a1").await.unwrap_err()),
        INVALID
    );
}

#[tokio::test]
async fn a_user_without_a_password_comes_by_certificate_only() {
    let mut guarded = Guarded::start(users()).await;
    let root = guarded.root.clone();
    let add = AuthUserAddRequest {
        name: "bob".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    guarded.auth.user_add(with(&root, add)).await.unwrap();
    let refused = guarded.log_in("bob").await.unwrap_err();
    assert_eq!(refused.code(), Code::Unknown);
    assert_eq!(
        refused.message(),
        "auth: authentication failed, password was given for no password user"
    );
    let users = users();
    let bob = Credentials {
        token: None,
        common_name: Some("bob".into()),
    };
    let auth = guarded.port.handle.auth();
    let caller = users.caller(&auth, &bob).unwrap();
    assert_eq!(
        (&caller.user[..], caller.revision),
        ("bob", auth.revision())
    );
    let both = Credentials {
        token: Some("x".parse().unwrap()),
        ..bob
    };
    assert_eq!(
        users.caller(&auth, &both),
        Err(etcd::Status::INVALID_TOKEN),
        "a token goes before the certificate"
    );
}

#[tokio::test]
async fn any_member_knows_the_tokens_of_the_others() {
    let guarded = Guarded::start(users()).await;
    let ann = Credentials {
        token: Some(guarded.ann.parse().unwrap()),
        common_name: None,
    };
    // Another door has never seen it.
    let caller = users().caller(&guarded.port.handle.auth(), &ann).unwrap();
    assert_eq!(caller.user, "ann");
}

#[tokio::test]
async fn the_gateway_takes_tokens_and_holds_to_the_same_rules() {
    let guarded = Guarded::start(users()).await;
    let post = async |path: &str, body: &str, token: &str| {
        let header = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: {token}\r\n")
        };
        let bytes = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{header}Content-Length: {bytes}\r\nConnection: close\r\n\r\n{body}"
        );
        guarded.port.raw(&request).await
    };
    // "a1" is YTE=.
    let answer = post(
        "/v3/kv/put",
        r#"{"key":"YTE=","value":"MQ=="}"#,
        &guarded.ann,
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = post("/v3/kv/range", r#"{"key":"YTE="}"#, "").await;
    assert!(
        answer.starts_with("HTTP/1.1 400 ") && answer.contains("user name is empty"),
        "{answer}"
    );
    let answer = post("/v3/maintenance/status", "{}", &guarded.ann).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    let answer = post("/v3beta/auth/user/list", "{}", &guarded.root).await;
    assert!(answer.contains(r#""users":["ann","root"]"#), "{answer}");
    let body = r#"{"name":"ann","password":"ann's"}"#;
    let answer = post("/v3/auth/authenticate", body, "").await;
    assert!(answer.contains(r#""token":""#), "{answer}");
    let answer = post("/v3/auth/user/delete", r#"{"name":"root"}"#, &guarded.root).await;
    assert!(answer.contains("invalid auth management"), "{answer}");
}

#[tokio::test]
async fn only_administrators_rotate_the_key_of_fencing_tokens() {
    let guarded = Guarded::start(users()).await;
    let mut locks = LockClient::new(guarded.port.channel().await);
    let request = v1::RotateKeyRequest::default;
    let refused = locks.rotate_key(with(&guarded.ann, request())).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let rotated = locks.rotate_key(with(&guarded.root, request())).await;
    assert_eq!(rotated.unwrap().into_inner().keys.len(), 1);
    let drop = v1::DropKeyRequest { kid: "none".into() };
    let refused = locks.drop_key(with(&guarded.root, drop)).await;
    assert_eq!(refused.unwrap_err().code(), Code::NotFound);
}
