//! What a caller may do about a failed request.

use std::error::Error;
use std::fmt;
use tonic::{Code, Status};

/// Why a request gave no answer, by what the caller may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientError {
    /// No member could be reached, or none could serve; nothing happened, try again later.
    Unreachable {
        /// Which endpoints were tried, and what went wrong with each.
        reason: String,
    },
    /// A member said no; the same request will fail again.
    Refused {
        /// The kind.
        code: Code,
        /// A stable word for programs, such as `guard-not-held`; empty from calls of etcd's API.
        reason: String,
        /// In its words.
        message: String,
    },
    /// The connection or the leader was lost underway: a change may or may not have been applied, once, now or later.
    Unknown {
        /// What happened.
        reason: String,
    },
    /// An endpoint makes no sense.
    BadEndpoint {
        /// As it was given.
        endpoint: String,
        /// What is wrong.
        reason: String,
    },
    /// Certificates cannot be used.
    BadCertificates {
        /// Which, and what is wrong.
        reason: String,
    },
    /// The session has ended, and with it all that it held.
    SessionLost {
        /// How.
        reason: String,
    },
    /// A value is not of the type asked for, or cannot be written down.
    BadValue {
        /// Of which key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// Where a member says whether a retry can help.
const CLASS_METADATA: &str = "synod-class";
/// Where it says why it refuses, in a word for programs.
const REASON_METADATA: &str = "synod-reason";
/// Texts by which a member says that nothing happened and a retry may help.
const CERTAINLY_NOTHING: [&str; 3] = [
    "etcdserver: no leader",
    "etcdserver: leader changed",
    "etcdserver: too many requests",
];
/// How an endpoint failed that did not.
pub(crate) const SILENT: &str = "no answer in time";
/// The text by which a member says that the read asked for may succeed at another one.
const STALE: &str = "synod: this member is staler";

impl ClientError {
    /// Whether the same request can succeed later. A change whose outcome is [unknown](ClientError::Unknown) may have happened already; all other
    /// errors say that it did not.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            ClientError::Unreachable { .. } | ClientError::Unknown { .. }
        )
    }

    /// The stable word of a refusal; empty if it has none, or this is no refusal.
    pub fn reason(&self) -> &str {
        match self {
            ClientError::Refused { reason, .. } => reason,
            _ => "",
        }
    }

    /// The member asked lags behind what the read wants; another one may not.
    pub(crate) fn is_stale(&self) -> bool {
        matches!(self, ClientError::Unreachable { reason } if reason.contains(STALE))
    }

    /// Sorts an answer that is none.
    pub(crate) fn of(endpoint: &str, status: &Status) -> ClientError {
        let reason = || format!("{endpoint}: {}", text(status));
        let message = status.message();
        let trailer = |name| {
            status
                .metadata()
                .get(name)
                .and_then(|text| text.to_str().ok())
        };
        match trailer(CLASS_METADATA) {
            Some("transient") => return ClientError::Unreachable { reason: reason() },
            Some("unknown") => return ClientError::Unknown { reason: reason() },
            _ => {}
        }
        if never_sent(status) || CERTAINLY_NOTHING.contains(&message) || message.starts_with(STALE)
        {
            return ClientError::Unreachable { reason: reason() };
        }
        match status.code() {
            Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Internal
                if status.source().is_some() =>
            {
                ClientError::Unknown { reason: reason() }
            }
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                ClientError::Unknown { reason: reason() }
            }
            code => ClientError::Refused {
                code,
                reason: trailer(REASON_METADATA).unwrap_or_default().to_owned(),
                message: message.to_owned(),
            },
        }
    }

    /// An endpoint did not answer in time. `last`: the request has no time left.
    pub(crate) fn silent(endpoint: &str, change: bool, last: bool) -> ClientError {
        let reason = format!("{endpoint}: {SILENT}");
        if change || !last {
            ClientError::Unknown { reason }
        } else {
            ClientError::Unreachable { reason }
        }
    }

    /// What went wrong, unless it is a refusal.
    pub(crate) fn trouble(&self) -> Option<&str> {
        match self {
            ClientError::Unreachable { reason } | ClientError::Unknown { reason } => Some(reason),
            _ => None,
        }
    }

    /// The error to end with after all endpoints were tried: what went wrong with each, and whether one of them may have done it nevertheless.
    pub(crate) fn of_all(troubles: Vec<String>, may_be_done: bool) -> ClientError {
        let mut reason = troubles.join("; ");
        if troubles.len() > 1 {
            reason = format!("none could serve: {reason}");
        }
        match may_be_done {
            true => ClientError::Unknown { reason },
            false => ClientError::Unreachable { reason },
        }
    }
}

/// No connection came about, so the request never left.
fn never_sent(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}

fn text(status: &Status) -> String {
    match status.source() {
        Some(source) => innermost(source),
        None => status.message().to_owned(),
    }
}

/// The innermost reason: the outer ones only say that something failed.
pub(crate) fn innermost(mut error: &(dyn Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { reason } => write!(f, "{reason}"),
            ClientError::Refused { message, .. } => write!(f, "{message}"),
            ClientError::Unknown { reason } => write!(
                f,
                "the outcome is unknown, it may or may not have been applied: {reason}"
            ),
            ClientError::BadEndpoint { endpoint, reason } => {
                write!(f, "endpoints: {endpoint:?}: {reason}")
            }
            ClientError::BadCertificates { reason } => f.write_str(reason),
            ClientError::SessionLost { reason } => write!(f, "the session is lost: {reason}"),
            ClientError::BadValue { key, reason } => write!(f, "the value of {key:?}: {reason}"),
        }
    }
}

impl Error for ClientError {}
