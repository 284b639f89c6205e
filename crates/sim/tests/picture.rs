//! A picture is complete in itself, well formed, and bounded however long the run.

use synod_sim::{Options, Picture, Profile, Scenario, Window, run};

/// Every tag is closed by its own name, in order.
#[track_caller]
fn well_formed(text: &str) {
    let mut open = Vec::new();
    for piece in text.split('<').skip(1) {
        let tag = &piece[..piece.find('>').expect("a tag ends")];
        let name = tag
            .trim_start_matches('/')
            .split([' ', '/'])
            .next()
            .unwrap_or("");
        if tag.starts_with('!') || name == "meta" || tag.ends_with('/') {
            continue;
        }
        if tag.starts_with('/') {
            assert_eq!(
                open.pop(),
                Some(name),
                "near <{}",
                &piece[..piece.len().min(80)]
            );
        } else {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "left open: {open:?}");
}

fn chaos(window: Window) -> String {
    let options = Options {
        timeline: Some(window),
        ..Options::new(7, Profile::Chaos)
    };
    let report = run(&options);
    Picture {
        title: report.replay.clone(),
        notes: vec!["a & b < c".into()],
        timeline: &report.timeline,
        members: report.machines,
        window,
    }
    .page()
}

#[test]
fn a_page_needs_nothing_from_elsewhere() {
    let played = Scenario::named("raft-partition-heal")
        .expect("it exists")
        .play(&mut |_| {});
    let [page, svg] = [false, true].map(|alone| played.picture("a split".into(), alone));
    for text in [&page, &svg] {
        well_formed(text);
        let elsewhere = text.replace("http://www.w3.org/2000/svg", "");
        assert!(!elsewhere.contains("http") && !elsewhere.contains("url("));
        for part in [
            "term 1",
            "term 2",
            "The network splits",
            "class=\"cut\"",
            "class=\"cross\"",
            "n5",
        ] {
            assert!(text.contains(part), "{part} is missing");
        }
    }
    assert!(page.contains("✓ the minority elected nobody"));
}

#[test]
fn a_story_about_the_lock_of_others_has_a_picture_too() {
    for name in ["foreign-release", "zk-herd", "redlock-split-vote"] {
        let played = Scenario::named(name).expect("it exists").play(&mut |_| {});
        let [page, svg] = [false, true].map(|alone| played.picture(name.into(), alone));
        for text in [&page, &svg] {
            well_formed(text);
            assert!(text.len() < 200_000, "{name}: {} bytes", text.len());
            assert!(text.contains("has the lock") && text.contains("resource"));
        }
        assert!(
            page.contains("✓ the lock "),
            "{name}: the verdict is missing"
        );
    }
}

#[test]
fn a_long_run_makes_a_bounded_page_and_a_window_shows_more_of_less() {
    let whole = chaos(Window::ALL);
    well_formed(&whole);
    assert!(whole.len() < 2_000_000, "{} bytes", whole.len());
    assert!(whole.contains("messages are not drawn"));
    let part = chaos(Window {
        from: 10_000_000,
        to: 11_000_000,
    });
    well_formed(&part);
    assert!(part.len() < whole.len());
    assert!(part.contains("a &amp; b &lt; c"));
}
