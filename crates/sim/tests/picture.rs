//! A picture is complete in itself, well formed, and bounded however long the run.

use synod_sim::{Options, Picture, Profile, Report, Scenario, View, Window, run};

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

fn lived(seed: u64, profile: Profile, seconds: u64) -> Report {
    run(&Options {
        timeline: Some(Window::ALL),
        seconds,
        ..Options::new(seed, profile)
    })
}

fn picture(report: &Report, view: View) -> Picture<'_> {
    Picture {
        title: report.replay.clone(),
        notes: vec!["yes  a & b < c".into()],
        timeline: &report.timeline,
        members: report.machines,
        view,
    }
}

/// The numbers of an attribute of all tags of this kind.
fn numbers(text: &str, tag: &str, attribute: &str) -> Vec<f64> {
    let begin = format!("<{tag} ");
    let tags = text.split(&begin).skip(1);
    let tags = tags.map(|rest| &rest[..rest.find('>').expect("a tag ends")]);
    let value = |tag: &str| {
        let (_, rest) = tag.split_once(&format!(" {attribute}=\""))?;
        rest.split_once('"')?.0.parse().ok()
    };
    tags.filter_map(|tag| value(&format!(" {tag}"))).collect()
}

/// The page's overview and what follows it.
fn parts(page: &str) -> (&str, &str) {
    let (_, rest) = page.split_once("<h2>All of it</h2>").expect("an overview");
    rest.split_once("<h2>").expect("a part message by message")
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
fn every_profile_has_an_overview_and_a_part_of_bounded_height() {
    for profile in Profile::ALL {
        let report = lived(7, profile, 60);
        let picture = picture(&report, View::Overview(None));
        let page = picture.page();
        well_formed(&page);
        assert!(page.len() < 2_000_000, "{profile}: {} bytes", page.len());
        let (overview, part) = parts(&page);
        let heights = numbers(overview, "svg", "height");
        assert_eq!(heights.len(), 1);
        assert!(
            (500.0..2_500.0).contains(&heights[0]),
            "{profile}: {heights:?}"
        );
        let heights = numbers(part, "svg", "height");
        // The lanes' names and the lanes, for a desktop and for a phone.
        assert_eq!(heights.len(), 4);
        assert!(
            heights.iter().all(|height| *height < 6_500.0),
            "{profile}: {heights:?}"
        );
        let widths = numbers(part, "svg", "width");
        assert!(
            widths[1] < 1_400.0 && widths[3] < 400.0,
            "{profile}: {widths:?}"
        );
        let alone = picture.svg();
        well_formed(&alone);
        let heights = numbers(&alone, "svg", "height");
        assert!(heights[0] < 9_500.0, "{profile}: {heights:?}");
        assert!(alone.contains("a &amp; b &lt; c") && page.contains("a &amp; b &lt; c"));
    }
}

#[test]
fn what_a_reader_needs_first_comes_first() {
    let report = lived(7, Profile::Chaos, 60);
    let picture = picture(&report, View::Overview(None));
    let page = picture.page();
    let place = |text: &str| page.find(text).unwrap_or_else(|| panic!("no {text}"));
    let order = [
        "<h1>synod sim --profile chaos --seed 7</h1>",
        "✓ a &amp; b &lt; c",
        "leads (a colour per term)",
        "<h2>All of it</h2>",
        "<h2>Message by message, ",
        "such as --from 12s --to 13500ms",
        "class=\"narrow\"",
    ];
    let places = order.map(place);
    assert!(places.is_sorted(), "{places:?}");
    let alone = picture.svg();
    let places = [
        "a &amp; b &lt; c",
        "leads (a colour per term)",
        "All of it",
        "Message by message",
    ]
    .map(|text| alone.find(text).expect(text));
    assert!(places.is_sorted(), "{places:?}");
}

/// Lines are 16 high. Names of terms are marks on lanes, not among them.
#[test]
fn no_text_of_an_overview_stands_on_another() {
    for profile in [Profile::Chaos, Profile::Churn, Profile::Calm] {
        let report = lived(11, profile, 60);
        let page = picture(&report, View::Overview(None)).page();
        let (overview, _) = parts(&page);
        let tops: Vec<f64> = overview
            .split("style=\"top:")
            .skip(1)
            .map(|rest| {
                rest[..rest.find("px").expect("a height")]
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert!(tops.len() > 3, "{profile}: {} lines", tops.len());
        let apart = |pair: &[f64]| pair[1] - pair[0] >= 15.0;
        assert!(tops.windows(2).all(apart), "{profile}: {tops:?}");
        let times = overview.split("<text class=\"time\"").skip(2);
        let times: Vec<f64> = times
            .map(|rest| {
                let (_, rest) = rest.split_once("y=\"").expect("a height");
                rest[..rest.find('"').expect("its end")]
                    .parse()
                    .expect("a number")
            })
            .collect();
        assert!(
            times.windows(2).all(|pair| pair[1] - pair[0] >= 13.0),
            "{times:?}"
        );
    }
}

/// However long the run: the words go, the height stays.
#[test]
fn an_overview_of_a_long_run_says_that_it_leaves_something_out() {
    let report = lived(7, Profile::Chaos, 300);
    let page = picture(&report, View::Overview(None)).page();
    let (overview, _) = parts(&page);
    let height = numbers(overview, "svg", "height")[0];
    assert!(height < 2_500.0, "{height}");
    assert!(overview.contains("had no room for words; --trace tells them"));
}

#[test]
fn a_window_shows_more_of_less() {
    let report = lived(7, Profile::Chaos, 60);
    let left_out = |from: u64, to: u64| {
        let window = Window {
            from: from * 1_000_000,
            to: to * 1_000_000,
        };
        let page = picture(&report, View::Overview(Some(window))).page();
        well_formed(&page);
        let (_, part) = parts(&page);
        let heights = numbers(part, "svg", "height");
        assert!(
            heights.iter().all(|height| *height < 6_500.0),
            "{heights:?}"
        );
        assert!(
            part.contains(&format!("Message by message, {from}.0")),
            "{}",
            &part[..80]
        );
        let (said, _) = part
            .split_once(" messages are not drawn")
            .expect("how many");
        let (_, number) = said.rsplit_once("<p>").expect("a sentence");
        number.parse::<usize>().expect("a number")
    };
    let [all, one] = [left_out(0, 60), left_out(5, 6)];
    assert!(one * 20 < all, "{one} of one second, {all} of sixty");
}
