//! Each scenario tells the same story always, and its verdict holds. Times are left out of the golden texts: they are not the story.
//! `UPDATE_GOLDEN=1` rewrites them.

use synod_sim::{Scenario, What, locks_table};

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
    for scenario in Scenario::all() {
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

/// The table of docs/design/locks.md is that of the runs.
#[test]
fn the_table_of_locks_is_found_by_its_scenarios() {
    let path = format!("{}/../../docs/design/locks.md", env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(&path).expect("the page is there");
    let start = page.find("| lock | network").expect("it has the table");
    let end = start + page[start..].find("\n\n").expect("it has an end") + 1;
    let table = locks_table();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let page = format!("{}{table}{}", &page[..start], &page[end..]);
        std::fs::write(&path, page).expect("the page is written");
    } else {
        assert_eq!(page[start..end], table, "UPDATE_GOLDEN=1 rewrites it");
    }
    assert_eq!(table.matches("broken<br>").count(), 0, "ours holds");
}
