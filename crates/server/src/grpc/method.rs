//! The calls of the etcd API: their paths, and how they are named in metrics.

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
    }
}
