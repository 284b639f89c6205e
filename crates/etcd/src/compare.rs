//! Comparisons of a transaction, brought into the form `state` knows.
//!
//! The wire allows numbers that mean nothing. etcd takes an unknown target for "both sides are equal" and an unknown result for "holds"; the door
//! writes these as comparisons with known numbers, so that nothing unknown ever stands in the log.

use crate::Status;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::{self, TxnRequest};
use state::Compare;

/// Checks and translates the comparisons of one transaction, in order. Those that always hold are left out.
pub(crate) fn compares(request: &TxnRequest) -> Result<Vec<Compare>, Status> {
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(Status::EMPTY_KEY);
    }
    Ok(request.compare.iter().filter_map(translate).collect())
}

fn translate(compare: &etcdserverpb::Compare) -> Option<Compare> {
    let result = CompareResult::try_from(compare.result).ok();
    let target = CompareTarget::try_from(compare.target).ok();
    let side = |target: CompareTarget, result: CompareResult, number, value| Compare {
        result: result.into(),
        target: target.into(),
        key: compare.key.clone(),
        range_end: compare.range_end.clone(),
        number,
        value,
    };
    match (target, result) {
        (Some(CompareTarget::Value), Some(result)) => {
            let value = match &compare.target_union {
                Some(TargetUnion::Value(value)) => value.clone(),
                _ => Default::default(),
            };
            Some(side(CompareTarget::Value, result, 0, value))
        }
        // Comparing the value of a key that is not there fails whatever the result asked for.
        (Some(CompareTarget::Value), None) => Some(side(
            CompareTarget::Version,
            CompareResult::Greater,
            0,
            Default::default(),
        )),
        (Some(target), Some(result)) => Some(side(
            target,
            result,
            number(target, compare),
            Default::default(),
        )),
        (None, Some(CompareResult::Equal)) | (_, None) => None,
        // Never holds: no version is that high.
        (None, Some(_)) => Some(side(
            CompareTarget::Version,
            CompareResult::Greater,
            i64::MAX,
            Default::default(),
        )),
    }
}

/// The number to compare with. One given for another target than the one named counts as 0.
fn number(target: CompareTarget, compare: &etcdserverpb::Compare) -> i64 {
    match (target, &compare.target_union) {
        (CompareTarget::Version, Some(TargetUnion::Version(number)))
        | (CompareTarget::Create, Some(TargetUnion::CreateRevision(number)))
        | (CompareTarget::Mod, Some(TargetUnion::ModRevision(number)))
        | (CompareTarget::Lease, Some(TargetUnion::Lease(number))) => *number,
        _ => 0,
    }
}
