//! Each promise that the simulator holds, by its name in PROPERTIES: a bug that breaks it is seen under exactly that name, and the same life is
//! clean without the bug. And each promise has a test of its name, here or elsewhere.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use synod_sim::Profile;
use synod_sim::mutation::Mutation;
use synod_sim::mutation::search::live;

/// After a change of the simulator a seed lives another life: so many are tried before a promise counts as not held.
const SEEDS: u64 = 30;

/// Lives that are known to be clean without a bug.
static CLEAN: Mutex<BTreeSet<(Profile, u64)>> = Mutex::new(BTreeSet::new());

/// The bug is seen as this promise, in the life named or in another one of its profile.
fn shows(promise: &str, bug: &str, (profile, seed): (Profile, u64)) {
    let mutation = Mutation::named(bug).expect("the name of a bug");
    let mut seen = Vec::new();
    for seed in std::iter::once(seed).chain((0..SEEDS).filter(|other| *other != seed)) {
        let report = live(profile, seed, Some(mutation));
        let Some(violation) = report.violations.first() else {
            continue;
        };
        if violation.property != promise {
            seen.push((seed, violation.property));
            continue;
        }
        if !CLEAN.lock().unwrap().contains(&(profile, seed)) {
            let report = live(profile, seed, None);
            assert!(report.violations.is_empty(), "{report}");
            CLEAN.lock().unwrap().insert((profile, seed));
        }
        return;
    }
    panic!("{bug} is not seen as {promise} in {SEEDS} lives of {profile}, but as {seen:?}");
}

macro_rules! promises {
    ($($promise:literal $name:ident: $bug:ident $profile:ident $seed:literal)+) => {
        $(
            #[test]
            fn $name() {
                shows($promise, stringify!($bug), (Profile::$profile, $seed));
            }
        )+

        /// Promises with a test in this file.
        const HERE: &[(&str, &str)] = &[$(($promise, stringify!($name))),+];
    };
}

promises! {
    "C1" c1_no_two_members_apply_different_entries: CommitByHeartbeat Churn 2
    "C2" c2_what_is_decided_stays_decided: CountUndurableOwnLog Calm 0
    "C3" c3_only_what_was_proposed_is_decided: ApplyUndecided Calm 0
    "C4" c4_with_a_majority_everything_is_decided: CommitNeedsAll Crashy 1

    "KV1" kv1_reads_are_linearizable: StaleReads Calm 0
    "KV2" kv2_acknowledged_writes_survive_a_loss_of_power: SkipSync Crashy 0
    "KV3" kv3_the_revision_rises_by_one: DeleteRaisesTwice Calm 0
    "KV4" kv4_a_past_revision_reads_as_the_history_says: OneBackSeesPresent Calm 0
    "KV5" kv5_states_are_equal: CompactionWaitsForReaders Calm 13
    "KV6" kv6_a_transaction_sees_itself: RangeInTxnSeesBefore Calm 0
    "KV7" kv7_a_stamp_is_not_undercut: StampNotWaited Churn 0
    "KV8" kv8_a_stamp_names_the_state_that_was_read: StampTooNew Calm 0

    "W1" w1_watch_is_in_order: NewestFirst Calm 0
    "W2" w2_watch_hears_nothing_twice: RepeatWatchResponse Calm 0
    "W3" w3_watch_has_no_gap: SlowWatchSkips Calm 0
    "W4" w4_watch_has_whole_revisions: SplitRevision Calm 0
    "W5" w5_watch_resumes_where_it_was_asked_to: ResumeOffByOne Calm 1
    "W6" w6_progress_passes_nothing: ProgressAhead Crashy 0
    "W7" w7_filters_are_exact: FiltersSwapped Calm 1
    "W7" w7_ranges_are_exact: RangeEndIncluded Calm 2
    "W8" w8_the_previous_state_is_that_before: PrevOfSameRevision Calm 0
    "W9" w9_creation_is_told: RecreatedKeyIsOld Calm 0
    "W10" w10_watch_from_the_future_hears_nothing_earlier: FutureStartsNow Calm 0
    "W11" w11_a_compacted_start_is_told: CompactedStartSilent Calm 0
    "W12" w12_a_slow_watch_holds_up_nobody: SlowWatchHoldsOthers Bitrot 0

    "L1" l1_a_lease_does_not_end_early: LeaseWithoutAllowance Calm 0
    "L2" l2_a_lease_does_not_outstay: RenewalAddsUp Calm 0
    "L3" l3_an_undecided_renewal_has_no_effect: KeepAliveBeforeApply Calm 0
    "L4" l4_all_keys_go_with_their_lease: ExpiryForgetsKeys Calm 0
    "L4" l4_a_key_that_moved_goes_with_its_new_lease: MovedKeyNotAttached Calm 0
    "L5" l5_a_renewal_after_the_end_says_so: EndedLeaseRenewed Calm 0
    "L6" l6_a_change_of_leaders_does_not_stop_the_clock: ClockSkipsIdleTime Calm 0

    "F1" f1_one_holds: SecondHolder Calm 0
    "F2" f2_tokens_rise: TokenReused Calm 0
    "F3" f3_a_stale_guard_is_refused: StaleGuard Calm 0
    "F4" f4_a_grant_needs_a_living_session: DeadSessionLetIn Calm 0
    "F5" f5_first_come_first_served: LastComeFirst Calm 0
    "F5" f5_whoever_waits_is_woken: LostWakeUp Calm 0
    "F6" f6_nobody_else_releases: ReleaseByIdAlone Calm 19
    "F6" f6_an_operator_takes_away_what_was_named: ForceIgnoresToken Crashy 15
    "F7" f7_a_lock_stays_closed_after_a_lost_session: LockDelaySkipped Calm 0
    "F8" f8_re_entry_counts: ReentryLostOnRetry Calm 0

    "E1" e1_a_repetition_does_not_run: RepetitionRuns Calm 0
    "E2" e2_without_its_record_a_request_is_refused: FreedRuns Calm 0
    "E3" e3_requests_come_in_any_order: OutOfOrderRefused Lossy 0
    "E3" e3_freed_replies_are_not_told_again: FreedReplayed Calm 0
    "I1" i1_no_number_is_given_twice: SegmentsOverlap Calm 0

    "R1" r1_damage_of_a_snapshot_is_told: SnapshotBeforeSync Crashy 4
    "R2" r2_what_was_acknowledged_before_a_loss_does_not_count: DistrustKeepsCount Bitrot 8
    "R3" r3_room_that_is_back_is_used: RoomUnnoticed Crashy 2
    "M1" m1_a_snapshot_names_the_members_of_its_index: SnapshotNamesNewestMembers Churn 10
    "U1" u1_a_feature_begins_when_all_know_it: KnowsForOthers Churn 6
    "V1" v1_service_resumes: NoPreVote Calm 0
    "V2" v2_local_reads_need_nobody: LocalReadNeedsLeader Chaos 1
    "S1" s1_both_branches_are_held_against_permissions: OtherBranchUnchecked Calm 3
    "S1" s1_users_may_do_what_they_may_and_no_more: RangeEndUnchecked Calm 3
}

/// All promises.
const ALL: &str = "C1 C2 C3 C4 \
    KV1 KV2 KV3 KV4 KV5 KV6 KV7 KV8 \
    W1 W2 W3 W4 W5 W6 W7 W8 W9 W10 W11 W12 \
    L1 L2 L3 L4 L5 L6 L7 F1 F2 F3 F4 F5 F6 F7 F8 E1 E2 E3 \
    Z1 Z2 Z3 Z4 Z5 D1 D2 D3 I1 R1 R2 R3 M1 U1 V1 V2 S1 S2 S3";

/// Of doors that are not there yet.
const NOT_YET: &str = "Z1 Z2 Z3 Z4 Z5 D1 D2 D3";

/// The promises in the names of the tests below a directory: `kv4_l4_and_so_on_and_w3_too` is of three.
fn names_below(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).expect("the workspace can be read") {
        let path = entry.expect("an entry").path();
        if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
            names_below(&path, names);
        }
        if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a file of the workspace");
            let text = text.replace("#[tokio::test]", "#[test]");
            for test in text.split("#[test]").skip(1) {
                let name = test.split_once("fn ").map_or("", |(_, rest)| rest);
                let name = name.split('(').next().unwrap_or_default();
                names.extend(name.split('_').map(str::to_uppercase));
            }
        }
    }
}

#[test]
fn every_promise_has_a_test_of_its_name() {
    for (promise, test) in HERE {
        let first = test.split('_').next().unwrap_or_default();
        assert_eq!(first.to_uppercase(), *promise, "{test}");
    }
    let mut names: BTreeSet<String> = HERE.iter().map(|(name, _)| (*name).into()).collect();
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    names_below(&crates, &mut names);
    let not_yet = |name: &&str| NOT_YET.split_whitespace().any(|word| word == *name);
    let without: Vec<&str> = ALL
        .split_whitespace()
        .filter(|name| !names.contains(*name) && !not_yet(name))
        .collect();
    assert!(without.is_empty(), "no test is named after {without:?}");
    for name in NOT_YET.split_whitespace() {
        assert!(
            !names.contains(name),
            "{name} has a test, and is said to have no door"
        );
    }
}
