//! What a run tells is plain words, whatever happens in it.

use synod_sim::{Detail, Options, Profile, Scenario, Window, run};

/// What values look like in the language of the program, and never in words for people.
const MARKS: [&str; 13] = [
    "{", "}", "[", "]", "::", "_", "\"", "\\", "Some(", "None", "Ok(", "Err(", "�",
];

/// Says where a line is not in plain words: one of the marks, or a capital inside a word.
fn oddity(line: &str) -> Option<String> {
    // A name of the field that is written so.
    let line = &line.replace("ZooKeeper", "it");
    let inside = |pair: &[char]| pair[0].is_lowercase() && pair[1].is_uppercase();
    let letters: Vec<char> = line.chars().collect();
    if letters.windows(2).any(inside) {
        return Some("a capital inside a word".into());
    }
    MARKS
        .iter()
        .find(|mark| line.contains(**mark))
        .map(|mark| format!("{mark:?}"))
}

#[track_caller]
fn plain(whose: &str, text: &str) {
    for line in text.lines() {
        if let Some(what) = oddity(line) {
            panic!("{whose} has {what}: {line}");
        }
    }
}

#[test]
fn values_of_the_program_are_seen() {
    for line in [
        "n1   is asked by c1 (2): Add(Add { name: b\"x\", delta: 1 })",
        "n1   answers c1 (2): refused: Auth(PermissionDenied)",
        "** an operator changes the members: Some(3)",
        "n1   reads [a, b)",
        "n1   → n2 t1 append_reply",
    ] {
        assert!(oddity(line).is_some(), "{line}");
    }
    assert_eq!(oddity("n1   leads term 2; c3 reads a up to b (lost)"), None);
}

/// A few lives of each profile: one as most are, one with users (their seeds leave 3 of 7), and one with little room (13 of 14).
fn lives_of(profile: Profile) {
    for seed in [1, 3, 13] {
        let options = Options {
            timeline: Some(Window::ALL),
            seconds: 20,
            ..Options::new(seed, profile)
        };
        let report = run(&options);
        assert!(report.violations.is_empty(), "{report}");
        let text = report.timeline.text(Detail::Everything);
        assert!(
            text.lines().count() > 1_000,
            "{} tells little",
            report.replay
        );
        plain(&report.replay, &text);
        plain(&report.replay, &report.to_string());
    }
}

#[test]
fn quiet_lives_are_told_in_plain_words() {
    [Profile::Calm, Profile::Lossy, Profile::Geo]
        .into_iter()
        .for_each(lives_of);
}

#[test]
fn lives_of_broken_machines_are_told_in_plain_words() {
    [Profile::Crashy, Profile::Bitrot, Profile::Clockwork]
        .into_iter()
        .for_each(lives_of);
}

#[test]
fn lives_with_changing_members_are_told_in_plain_words() {
    [Profile::Churn, Profile::Chaos]
        .into_iter()
        .for_each(lives_of);
}

/// All profiles are in one of the lists above.
#[test]
fn no_profile_is_left_out() {
    assert_eq!(Profile::ALL.len(), 3 + 3 + 2);
}

#[test]
fn scenarios_are_told_in_plain_words() {
    for scenario in Scenario::all() {
        let mut told = String::new();
        let played = scenario.play(&mut |line| {
            // What was asked is quoted, and the lines of others speak of their own commands.
            told += &line.replace('"', "");
            told += "\n";
        });
        told += &played.verdict();
        plain(scenario.name, &told);
        let text = played.timeline.text(Detail::Everything);
        plain(scenario.name, &text);
    }
}
