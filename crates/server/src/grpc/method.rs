//! The calls of the etcd API and of our own: their paths, and how they are named in metrics.

use std::collections::BTreeMap;
use std::sync::OnceLock;

/// A call of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// Where it stands in [`METHODS`].
    pub index: usize,
    /// Its path, `/package.Service/Name`.
    pub path: &'static str,
    /// `package.Service`.
    pub service: &'static str,
    /// Its name.
    pub name: &'static str,
    /// How metrics call its kind.
    pub kind: &'static str,
}

impl Method {
    /// It is of the native API.
    pub fn is_native(self) -> bool {
        self.service.starts_with("synod.v1.")
    }

    /// It may be asked for by a plain GET: it needs no message, and nothing is lost if somebody asks in vain.
    pub fn may_be_got(self) -> bool {
        [
            V1_ID_NEXT,
            V1_ID_UUID,
            V1_LEASE_LIST,
            V1_SESSION_LIST,
            V1_LOCK_LIST,
            V1_LOCK_KEYS,
        ]
        .contains(&self)
    }

    /// The path of a call of the native API without its prefix, in the way of HTTP: `lock/force-release`.
    pub fn native_path(self) -> Option<String> {
        let service = self.service.strip_prefix("synod.v1.")?;
        let mut path = service.to_ascii_lowercase();
        path.push('/');
        for (at, letter) in self.name.char_indices() {
            if at > 0 && letter.is_ascii_uppercase() {
                path.push('-');
            }
            path.push(letter.to_ascii_lowercase());
        }
        Some(path)
    }

    /// One request, one answer.
    pub fn is_unary(self) -> bool {
        self.kind == "unary"
    }
}

macro_rules! methods {
    ($($constant:ident $kind:literal $service:literal $name:literal)*) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Position { $($constant),* }

        $(
            pub(crate) const $constant: Method = Method {
                index: Position::$constant as usize,
                path: concat!("/", $service, "/", $name),
                service: $service,
                name: $name,
                kind: $kind,
            };
        )*

        /// Every call, in the order of [`Method::index`].
        pub(crate) const METHODS: &[Method] = &[$($constant),*];

        /// Finds the call of a path.
        pub(crate) fn by_path(path: &str) -> Option<Method> {
            match path {
                $(concat!("/", $service, "/", $name) => Some($constant),)*
                _ => None,
            }
        }
    };
}

methods! {
    RANGE "unary" "etcdserverpb.KV" "Range"
    PUT "unary" "etcdserverpb.KV" "Put"
    DELETE_RANGE "unary" "etcdserverpb.KV" "DeleteRange"
    TXN "unary" "etcdserverpb.KV" "Txn"
    COMPACT "unary" "etcdserverpb.KV" "Compact"
    RANGE_STREAM "server_stream" "etcdserverpb.KV" "RangeStream"
    WATCH "bidi_stream" "etcdserverpb.Watch" "Watch"
    LEASE_GRANT "unary" "etcdserverpb.Lease" "LeaseGrant"
    LEASE_REVOKE "unary" "etcdserverpb.Lease" "LeaseRevoke"
    LEASE_KEEP_ALIVE "bidi_stream" "etcdserverpb.Lease" "LeaseKeepAlive"
    LEASE_TIME_TO_LIVE "unary" "etcdserverpb.Lease" "LeaseTimeToLive"
    LEASE_LEASES "unary" "etcdserverpb.Lease" "LeaseLeases"
    MEMBER_LIST "unary" "etcdserverpb.Cluster" "MemberList"
    MEMBER_ADD "unary" "etcdserverpb.Cluster" "MemberAdd"
    MEMBER_REMOVE "unary" "etcdserverpb.Cluster" "MemberRemove"
    MEMBER_UPDATE "unary" "etcdserverpb.Cluster" "MemberUpdate"
    MEMBER_PROMOTE "unary" "etcdserverpb.Cluster" "MemberPromote"
    STATUS "unary" "etcdserverpb.Maintenance" "Status"
    ALARM "unary" "etcdserverpb.Maintenance" "Alarm"
    HASH "unary" "etcdserverpb.Maintenance" "Hash"
    HASH_KV "unary" "etcdserverpb.Maintenance" "HashKV"
    DEFRAGMENT "unary" "etcdserverpb.Maintenance" "Defragment"
    MOVE_LEADER "unary" "etcdserverpb.Maintenance" "MoveLeader"
    SNAPSHOT "server_stream" "etcdserverpb.Maintenance" "Snapshot"
    DOWNGRADE "unary" "etcdserverpb.Maintenance" "Downgrade"
    AUTH_ENABLE "unary" "etcdserverpb.Auth" "AuthEnable"
    AUTH_DISABLE "unary" "etcdserverpb.Auth" "AuthDisable"
    AUTH_STATUS "unary" "etcdserverpb.Auth" "AuthStatus"
    AUTHENTICATE "unary" "etcdserverpb.Auth" "Authenticate"
    USER_ADD "unary" "etcdserverpb.Auth" "UserAdd"
    USER_GET "unary" "etcdserverpb.Auth" "UserGet"
    USER_LIST "unary" "etcdserverpb.Auth" "UserList"
    USER_DELETE "unary" "etcdserverpb.Auth" "UserDelete"
    USER_CHANGE_PASSWORD "unary" "etcdserverpb.Auth" "UserChangePassword"
    USER_GRANT_ROLE "unary" "etcdserverpb.Auth" "UserGrantRole"
    USER_REVOKE_ROLE "unary" "etcdserverpb.Auth" "UserRevokeRole"
    ROLE_ADD "unary" "etcdserverpb.Auth" "RoleAdd"
    ROLE_GET "unary" "etcdserverpb.Auth" "RoleGet"
    ROLE_LIST "unary" "etcdserverpb.Auth" "RoleList"
    ROLE_DELETE "unary" "etcdserverpb.Auth" "RoleDelete"
    ROLE_GRANT_PERMISSION "unary" "etcdserverpb.Auth" "RoleGrantPermission"
    ROLE_REVOKE_PERMISSION "unary" "etcdserverpb.Auth" "RoleRevokePermission"
    LOCK "unary" "v3lockpb.Lock" "Lock"
    UNLOCK "unary" "v3lockpb.Lock" "Unlock"
    CAMPAIGN "unary" "v3electionpb.Election" "Campaign"
    PROCLAIM "unary" "v3electionpb.Election" "Proclaim"
    LEADER "unary" "v3electionpb.Election" "Leader"
    OBSERVE "server_stream" "v3electionpb.Election" "Observe"
    RESIGN "unary" "v3electionpb.Election" "Resign"
    LIST_MEMBERS "unary" "synodpb.Members" "List"
    CHANGE_MEMBERS "unary" "synodpb.Members" "Change"
    SAVE "server_stream" "synodpb.Backup" "Save"
    EXAMINE "unary" "synodpb.Members" "Examine"
    V1_KV_PUT "unary" "synod.v1.Kv" "Put"
    V1_KV_GET "unary" "synod.v1.Kv" "Get"
    V1_KV_RANGE "unary" "synod.v1.Kv" "Range"
    V1_KV_DELETE "unary" "synod.v1.Kv" "Delete"
    V1_KV_TXN "unary" "synod.v1.Kv" "Txn"
    V1_WATCH_WATCH "server_stream" "synod.v1.Watch" "Watch"
    V1_LEASE_GRANT "unary" "synod.v1.Lease" "Grant"
    V1_LEASE_REVOKE "unary" "synod.v1.Lease" "Revoke"
    V1_LEASE_KEEP_ALIVE "bidi_stream" "synod.v1.Lease" "KeepAlive"
    V1_LEASE_REFRESH "unary" "synod.v1.Lease" "Refresh"
    V1_LEASE_REGISTER "unary" "synod.v1.Lease" "Register"
    V1_LEASE_GET "unary" "synod.v1.Lease" "Get"
    V1_LEASE_LIST "unary" "synod.v1.Lease" "List"
    V1_SESSION_OPEN "unary" "synod.v1.Session" "Open"
    V1_SESSION_KEEP_ALIVE "bidi_stream" "synod.v1.Session" "KeepAlive"
    V1_SESSION_REFRESH "unary" "synod.v1.Session" "Refresh"
    V1_SESSION_CLOSE "unary" "synod.v1.Session" "Close"
    V1_SESSION_LIST "unary" "synod.v1.Session" "List"
    V1_LOCK_ACQUIRE "unary" "synod.v1.Lock" "Acquire"
    V1_LOCK_RELEASE "unary" "synod.v1.Lock" "Release"
    V1_LOCK_FORCE_RELEASE "unary" "synod.v1.Lock" "ForceRelease"
    V1_LOCK_SET_TEXT "unary" "synod.v1.Lock" "SetText"
    V1_LOCK_LIST "unary" "synod.v1.Lock" "List"
    V1_LOCK_SHOW "unary" "synod.v1.Lock" "Show"
    V1_LOCK_FIND "unary" "synod.v1.Lock" "Find"
    V1_LOCK_CHECK "unary" "synod.v1.Lock" "Check"
    V1_LOCK_SIGN "unary" "synod.v1.Lock" "Sign"
    V1_LOCK_KEYS "unary" "synod.v1.Lock" "Keys"
    V1_LOCK_ROTATE_KEY "unary" "synod.v1.Lock" "RotateKey"
    V1_LOCK_DROP_KEY "unary" "synod.v1.Lock" "DropKey"
    V1_LOCK_OBSERVE "server_stream" "synod.v1.Lock" "Observe"
    V1_ELECTION_CAMPAIGN "unary" "synod.v1.Election" "Campaign"
    V1_ELECTION_PROCLAIM "unary" "synod.v1.Election" "Proclaim"
    V1_ELECTION_RESIGN "unary" "synod.v1.Election" "Resign"
    V1_ELECTION_LEADER "unary" "synod.v1.Election" "Leader"
    V1_ELECTION_OBSERVE "server_stream" "synod.v1.Election" "Observe"
    V1_SEMAPHORE_ACQUIRE "unary" "synod.v1.Semaphore" "Acquire"
    V1_SEMAPHORE_RELEASE "unary" "synod.v1.Semaphore" "Release"
    V1_SEMAPHORE_SHOW "unary" "synod.v1.Semaphore" "Show"
    V1_BARRIER_ENTER "unary" "synod.v1.Barrier" "Enter"
    V1_BARRIER_LEAVE "unary" "synod.v1.Barrier" "Leave"
    V1_BARRIER_CANCEL "unary" "synod.v1.Barrier" "Cancel"
    V1_BARRIER_SHOW "unary" "synod.v1.Barrier" "Show"
    V1_LATCH_SET "unary" "synod.v1.Latch" "Set"
    V1_LATCH_COUNT_DOWN "unary" "synod.v1.Latch" "CountDown"
    V1_LATCH_WAIT "unary" "synod.v1.Latch" "Wait"
    V1_LATCH_GET "unary" "synod.v1.Latch" "Get"
    V1_GROUP_JOIN "unary" "synod.v1.Group" "Join"
    V1_GROUP_UPDATE "unary" "synod.v1.Group" "Update"
    V1_GROUP_LEAVE "unary" "synod.v1.Group" "Leave"
    V1_GROUP_LIST "unary" "synod.v1.Group" "List"
    V1_GROUP_OBSERVE "server_stream" "synod.v1.Group" "Observe"
    V1_ID_NEXT "unary" "synod.v1.Id" "Next"
    V1_ID_UUID "unary" "synod.v1.Id" "Uuid"
    V1_ID_WORKER "unary" "synod.v1.Id" "Worker"
    V1_ID_SEGMENT "unary" "synod.v1.Id" "Segment"
    V1_ID_ADD "unary" "synod.v1.Id" "Add"
    V1_ID_DECODE "unary" "synod.v1.Id" "Decode"
}

/// Finds the call of a path as [`Method::native_path`] gives it.
pub(crate) fn by_native_path(path: &str) -> Option<Method> {
    static PATHS: OnceLock<BTreeMap<String, Method>> = OnceLock::new();
    let paths = PATHS.get_or_init(|| {
        let each = METHODS.iter();
        each.filter_map(|method| Some((method.native_path()?, *method)))
            .collect()
    });
    paths.get(path).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_is_found_by_its_path() {
        for (index, method) in METHODS.iter().enumerate() {
            assert_eq!(method.index, index);
            assert_eq!(by_path(method.path), Some(*method));
        }
        assert_eq!(by_path("/etcdserverpb.KV/NoSuch"), None);
        assert_eq!(
            by_native_path("lock/force-release"),
            Some(V1_LOCK_FORCE_RELEASE)
        );
        assert_eq!(by_native_path("kv/put"), Some(V1_KV_PUT));
        assert_eq!(by_native_path("kv/Put"), None);
    }
}
