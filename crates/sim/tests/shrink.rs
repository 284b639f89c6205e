//! A failing run is made smaller without becoming another failure.

use synod_sim::mutation::{Mutation, Shell};
use synod_sim::{Options, Profile, Progress, run, schedule, shrink};

/// A run of a cluster that forgets votes, which fails.
fn failing() -> Options {
    (0..20)
        .map(|seed| Options {
            mutation: Some(Mutation::Shell(Shell::SkipSync)),
            seconds: 20,
            ..Options::new(seed, Profile::Crashy)
        })
        .find(|options| schedule(options).len() > 5 && !run(options).violations.is_empty())
        .expect("a seed that fails")
}

#[test]
fn a_shrunk_run_breaks_the_same_promise_with_fewer_faults() {
    let options = failing();
    let before = run(&options);
    let mut told = Vec::new();
    let shrunk = shrink(&options, &mut |progress: Progress| {
        told.push(progress);
        true
    })
    .expect("the run fails");
    let (first, now) = (&before.violations[0], &shrunk.report.violations[0]);
    assert_eq!(first.property, now.property);
    assert!(
        shrunk.faults.len() < schedule(&options).len() && shrunk.faults.len() <= 5,
        "{} faults of {} are left: {:?}",
        shrunk.faults.len(),
        schedule(&options).len(),
        shrunk.faults
    );
    assert!(shrunk.finished);
    assert_eq!(told.len() as u64 + 1, shrunk.runs, "each run is told");
    assert!(told.windows(2).all(|pair| pair[1].faults <= pair[0].faults));
    // The smallest run replays from what it says of itself.
    let again = run(&shrunk.options);
    assert_eq!(again.trace_hash, shrunk.report.trace_hash);
    assert!(
        shrunk.report.replay.contains("--only-faults"),
        "{}",
        shrunk.report.replay
    );
}

#[test]
fn a_shrink_stops_when_told_and_keeps_what_it_has() {
    let options = failing();
    let mut runs = 0;
    let shrunk = shrink(&options, &mut |_| {
        runs += 1;
        runs < 3
    })
    .expect("the run fails");
    assert!(!shrunk.finished);
    assert_eq!(runs, 3);
    assert!(!shrunk.report.violations.is_empty());
}

#[test]
fn a_sound_run_is_not_shrunk() {
    let options = Options {
        seconds: 5,
        ..Options::new(1, Profile::Calm)
    };
    assert!(shrink(&options, &mut |_| true).is_none());
}
