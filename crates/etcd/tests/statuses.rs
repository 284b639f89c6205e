//! Codes and texts, against the list of what etcd answers: clients match on them to the letter.

use std::collections::BTreeSet;
use synod_etcd::Status;

#[test]
fn every_status_of_etcd_is_there_and_no_other() {
    let theirs: BTreeSet<String> = include_str!("statuses.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    let ours: BTreeSet<String> = Status::ALL.iter().map(Status::to_string).collect();
    assert_eq!(ours, theirs);
}
