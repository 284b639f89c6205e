//! What clients are told when a request ends without an answer.

use etcd::{Advice, Code, Status};
use replica::{Failure, RefusalReason};

/// A member's failure in etcd's words, which say whether a retry can help.
pub(crate) fn status(failure: Failure) -> Status {
    match failure {
        Failure::NoLeader => Status::NO_LEADER,
        Failure::LeaderChanged => Status::LEADER_CHANGED,
        // It may have been applied: clients must not retry a write on this one.
        Failure::Unknown => Status::TIMED_OUT_LEADER_FAILURE,
        Failure::Overloaded { .. } => Status::TOO_MANY_REQUESTS,
        Failure::TooLarge { .. } => Status::REQUEST_TOO_LARGE,
        Failure::DiskFull => Status::NO_SPACE,
        Failure::TooManyLeases { limit } => Status::new(
            Code::ResourceExhausted,
            format!("synod: too many leases, this member allows {limit} at most"),
        )
        .advised(Advice::transient("too-many-leases")),
        Failure::TooStale { leader } => {
            let leader = leader.map_or("no leader is known".into(), |leader| {
                format!("the leader is {leader}")
            });
            Status::new(
                Code::Unavailable,
                format!("synod: this member is staler than the read allows; {leader}"),
            )
            .advised(Advice::transient("too-stale"))
        }
        Failure::ForeignStamp => Status::new(
            Code::InvalidArgument,
            "synod: the stamp is of another cluster or cell",
        )
        .advised(Advice::permanent("foreign-stamp")),
        Failure::MembershipRefused(refusal) => refused(refusal.reason),
        Failure::Halted => Status::STOPPED,
    }
}

/// Why members were not changed, in etcd's words.
fn refused(reason: RefusalReason) -> Status {
    match reason {
        RefusalReason::NotLeader => Status::LEADER_CHANGED,
        RefusalReason::Busy => Status::TOO_MANY_REQUESTS,
        RefusalReason::UnknownMember => Status::MEMBER_NOT_FOUND,
        RefusalReason::MemberExists => Status::MEMBER_EXISTS,
        RefusalReason::AddressTaken => Status::PEER_URL_EXISTS,
        RefusalReason::NotALearner => Status::MEMBER_NOT_LEARNER,
        RefusalReason::NotCaughtUp => Status::LEARNER_NOT_READY,
        RefusalReason::TooManyLearners => Status::TOO_MANY_LEARNERS,
        RefusalReason::NotEnoughStarted => Status::MEMBERS_NOT_ENOUGH_STARTED,
        RefusalReason::LosesQuorum => Status::UNHEALTHY,
        RefusalReason::Invalid => Status::MEMBER_BAD_URLS,
    }
}
