//! What the door answers when it refuses: gRPC codes and etcd's texts, which clients match on.

use crate::advice::Advice;
use std::borrow::Cow;

/// The gRPC codes this door uses, with their numbers on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// The caller gave up.
    Canceled = 1,
    /// Something without a better code.
    Unknown = 2,
    /// The request makes no sense, whatever the state.
    InvalidArgument = 3,
    /// The caller's time was over.
    DeadlineExceeded = 4,
    /// It is not there.
    NotFound = 5,
    /// It is there already.
    AlreadyExists = 6,
    /// The caller may not.
    PermissionDenied = 7,
    /// A limit is reached.
    ResourceExhausted = 8,
    /// The state does not allow it now.
    FailedPrecondition = 9,
    /// Somebody else was faster.
    Aborted = 10,
    /// Outside of what exists.
    OutOfRange = 11,
    /// No such call here.
    Unimplemented = 12,
    /// The server broke a promise to itself.
    Internal = 13,
    /// Try again, maybe elsewhere.
    Unavailable = 14,
    /// Data is lost or damaged.
    DataLoss = 15,
    /// The caller has to say who it is.
    Unauthenticated = 16,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The kind, for programs.
    pub code: Code,
    /// The text; clients match on it.
    pub text: Cow<'static, str>,
    /// What the caller may make of it, where etcd's code and text do not say it.
    pub advice: Option<Advice>,
}

impl Status {
    /// Makes one with a text of its own.
    pub fn new(code: Code, text: impl Into<Cow<'static, str>>) -> Status {
        Status {
            code,
            text: text.into(),
            advice: None,
        }
    }

    /// The same, with what the caller may make of it.
    pub fn advised(self, advice: Advice) -> Status {
        Status {
            advice: Some(advice),
            ..self
        }
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}: {}", self.code, self.text)
    }
}

impl std::error::Error for Status {}

macro_rules! statuses {
    ($($name:ident $code:ident $text:literal)*) => {
        impl Status {
            $(
                #[doc = concat!("`", $text, "`")]
                pub const $name: Status = Status { code: Code::$code, text: Cow::Borrowed($text), advice: None };
            )*

            /// Every refusal that etcd has a fixed text for.
            pub const ALL: &'static [Status] = &[$(Status::$name),*];
        }
    };
}

statuses! {
    EMPTY_KEY InvalidArgument "etcdserver: key is not provided"
    KEY_NOT_FOUND InvalidArgument "etcdserver: key not found"
    VALUE_PROVIDED InvalidArgument "etcdserver: value is provided"
    LEASE_PROVIDED InvalidArgument "etcdserver: lease is provided"
    TOO_MANY_OPERATIONS InvalidArgument "etcdserver: too many operations in txn request"
    DUPLICATE_KEY InvalidArgument "etcdserver: duplicate key given in txn request"
    INVALID_CLIENT_API_VERSION InvalidArgument "etcdserver: invalid client api version"
    INVALID_SORT_OPTION InvalidArgument "etcdserver: invalid sort option"
    COMPACTED OutOfRange "etcdserver: mvcc: required revision has been compacted"
    FUTURE_REVISION OutOfRange "etcdserver: mvcc: required revision is a future revision"
    NO_SPACE ResourceExhausted "etcdserver: mvcc: database space exceeded"
    LEASE_NOT_FOUND NotFound "etcdserver: requested lease not found"
    LEASE_EXISTS FailedPrecondition "etcdserver: lease already exists"
    LEASE_TTL_TOO_LARGE OutOfRange "etcdserver: too large lease TTL"
    WATCH_CANCELED Canceled "etcdserver: watch canceled"
    MEMBER_EXISTS FailedPrecondition "etcdserver: member ID already exist"
    PEER_URL_EXISTS FailedPrecondition "etcdserver: Peer URLs already exists"
    MEMBERS_NOT_ENOUGH_STARTED Unknown "etcdserver: re-configuration failed due to not enough started members"
    MEMBER_BAD_URLS InvalidArgument "etcdserver: given member URLs are invalid"
    MEMBER_NOT_FOUND NotFound "etcdserver: member not found"
    MEMBER_NOT_LEARNER FailedPrecondition "etcdserver: can only promote a learner member"
    LEARNER_NOT_READY FailedPrecondition "etcdserver: can only promote a learner member which is in sync with leader"
    TOO_MANY_LEARNERS FailedPrecondition "etcdserver: too many learner members in cluster"
    CLUSTER_ID_MISMATCH FailedPrecondition "etcdserver: cluster ID mismatch"
    REQUEST_TOO_LARGE InvalidArgument "etcdserver: request is too large"
    TOO_MANY_REQUESTS ResourceExhausted "etcdserver: too many requests"
    ROOT_USER_NOT_FOUND FailedPrecondition "etcdserver: root user does not exist"
    ROOT_ROLE_NOT_FOUND FailedPrecondition "etcdserver: root user does not have root role"
    USER_EXISTS FailedPrecondition "etcdserver: user name already exists"
    USER_EMPTY InvalidArgument "etcdserver: user name is empty"
    USER_NOT_FOUND FailedPrecondition "etcdserver: user name not found"
    ROLE_EXISTS FailedPrecondition "etcdserver: role name already exists"
    ROLE_NOT_FOUND FailedPrecondition "etcdserver: role name not found"
    ROLE_EMPTY InvalidArgument "etcdserver: role name is empty"
    AUTHENTICATION_FAILED InvalidArgument "etcdserver: authentication failed, invalid user ID or password"
    PERMISSION_NOT_GIVEN InvalidArgument "etcdserver: permission not given"
    PERMISSION_DENIED PermissionDenied "etcdserver: permission denied"
    ROLE_NOT_GRANTED FailedPrecondition "etcdserver: role is not granted to the user"
    PERMISSION_NOT_GRANTED FailedPrecondition "etcdserver: permission is not granted to the role"
    AUTHENTICATION_NOT_ENABLED FailedPrecondition "etcdserver: authentication is not enabled"
    INVALID_TOKEN Unauthenticated "etcdserver: invalid auth token"
    INVALID_AUTH_MANAGEMENT InvalidArgument "etcdserver: invalid auth management"
    AUTH_OLD_REVISION InvalidArgument "etcdserver: revision of auth store is old"
    NO_LEADER Unavailable "etcdserver: no leader"
    NOT_LEADER FailedPrecondition "etcdserver: not leader"
    LEADER_CHANGED Unavailable "etcdserver: leader changed"
    NOT_CAPABLE FailedPrecondition "etcdserver: not capable"
    STOPPED Unavailable "etcdserver: server stopped"
    TIMED_OUT Unavailable "etcdserver: request timed out"
    TIMED_OUT_LEADER_FAILURE Unavailable "etcdserver: request timed out, possibly due to previous leader failure"
    TIMED_OUT_CONNECTION_LOST Unavailable "etcdserver: request timed out, possibly due to connection lost"
    TIMED_OUT_APPLY Unavailable "etcdserver: request timed out, waiting for the applied index took too long"
    UNHEALTHY Unavailable "etcdserver: unhealthy cluster"
    CORRUPT DataLoss "etcdserver: corrupt cluster"
    NOT_FOR_LEARNER FailedPrecondition "etcdserver: rpc not supported for learner"
    BAD_LEADER_TRANSFEREE FailedPrecondition "etcdserver: bad leader transferee"
    WRONG_DOWNGRADE_VERSION_FORMAT InvalidArgument "etcdserver: wrong downgrade target version format"
    INVALID_DOWNGRADE_VERSION InvalidArgument "etcdserver: invalid downgrade target version"
    CLUSTER_VERSION_UNAVAILABLE FailedPrecondition "etcdserver: cluster version not found during downgrade"
    DOWNGRADE_IN_PROCESS FailedPrecondition "etcdserver: cluster has a downgrade job in progress"
    NO_DOWNGRADE_IN_PROCESS FailedPrecondition "etcdserver: no inflight downgrade job"
    CANCELED Canceled "etcdserver: request canceled"
    DEADLINE_EXCEEDED DeadlineExceeded "etcdserver: context deadline exceeded"
}
