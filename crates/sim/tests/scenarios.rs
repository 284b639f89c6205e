//! Each scenario tells the same story always, and its verdict holds. Times are left out of the golden texts: they are not the story.
//! `UPDATE_GOLDEN=1` rewrites them.

use synod_sim::{SCENARIOS, Scenario, What};

/// A line without the time before it.
fn without_time(line: &str) -> &str {
    match line.find(" s ") {
        Some(end) if line[..end].trim().parse::<f64>().is_ok() => &line[end + 2..],
        _ => line,
    }
}

fn story(scenario: &Scenario) -> String {
    let mut text = format!("{}: {}\n\n", scenario.name, scenario.about);
    let played = scenario.play(&mut |line| {
        text += without_time(line);
        text.push('\n');
    });
    text + "\n" + &played.verdict() + "\n"
}

#[test]
fn every_scenario_tells_its_golden_story_and_its_verdict_holds() {
    let mut wrong = Vec::new();
    for scenario in SCENARIOS {
        let path = format!(
            "{}/tests/scenarios/{}.txt",
            env!("CARGO_MANIFEST_DIR"),
            scenario.name
        );
        let told = story(scenario);
        assert!(!told.contains("\n  NO "), "{told}");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &told).expect("the golden file is written");
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        if golden != told {
            wrong.push(format!("{path} differs; the story is now:\n{told}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_scenario_keeps_its_timeline_for_the_picture() {
    let scenario = Scenario::named("raft-split-vote").expect("it exists");
    let played = scenario.play(&mut |_| {});
    let messages = played
        .timeline
        .moments()
        .iter()
        .filter(|moment| matches!(moment.what, What::Sends { .. }))
        .count();
    assert!(played.held() && messages > 20, "{messages} messages");
    assert!(Scenario::named("no-such-story").is_none());
}
