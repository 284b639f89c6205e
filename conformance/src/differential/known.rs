//! Where etcd's own versions differ, so that an older etcd can still judge. The subject must answer as the newest one does.

use super::answer::Answer;
use super::operation::Operation;
use tonic::Code;

/// A difference between etcd's versions, found by running this tool on two of them.
pub struct Difference {
    /// A name for counting.
    pub name: &'static str,
    /// What it is, and since when.
    pub why: &'static str,
    /// First version (major, minor) that answers the new way; the difference is excused only if exactly one side is older.
    pub since: (u32, u32),
    applies: fn(&Operation, older: &Answer, newer: &Answer) -> bool,
}

/// All of them.
pub const DIFFERENCES: &[Difference] = &[Difference {
    name: "order of checks in a transaction",
    why: "before 3.6 all puts were checked before all ranges; since then operations are checked in their order, so another error comes first",
    since: (3, 6),
    applies: |operation, older, newer| {
        let older_put = matches!(
            older,
            Answer::Refused(Code::NotFound | Code::InvalidArgument, _)
        );
        let newer_range = matches!(newer, Answer::Refused(Code::OutOfRange, _));
        matches!(operation, Operation::Txn(_)) && older_put && newer_range
    },
}];

/// The difference that excuses two answers, if one does.
pub fn excuse(
    operation: &Operation,
    reference: (&Answer, (u32, u32)),
    subject: (&Answer, (u32, u32)),
) -> Option<&'static Difference> {
    let (older, newer) = if reference.1 <= subject.1 {
        (reference, subject)
    } else {
        (subject, reference)
    };
    DIFFERENCES.iter().find(|known| {
        older.1 < known.since
            && newer.1 >= known.since
            && (known.applies)(operation, older.0, newer.0)
    })
}
