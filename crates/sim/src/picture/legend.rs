//! What the marks of a picture mean.

use std::fmt::Write;

/// Height of the legend of a picture alone.
pub const HEIGHT: u32 = 58;

/// Bands and other marks on lanes, 22 wide and 18 high.
const BANDS: [(&str, &str); 8] = [
    (
        "<rect class=\"leads t0\" x=\"3\" width=\"16\" height=\"18\" rx=\"3\"/>",
        "leads (a colour per term)",
    ),
    (
        "<rect class=\"follows t0\" x=\"5\" width=\"12\" height=\"18\" rx=\"3\"/>",
        "follows in that term",
    ),
    (
        "<rect class=\"stands t0\" x=\"4\" y=\"1\" width=\"14\" height=\"16\" rx=\"3\"/>",
        "asks for votes",
    ),
    (
        "<line class=\"rail\" x1=\"11\" y1=\"0\" x2=\"11\" y2=\"18\"/><path class=\"cross\" d=\"M7 5l8 8m0-8l-8 8\"/>",
        "down",
    ),
    (
        "<path class=\"start\" d=\"M4 13l7 -9l7 9z\"/>",
        "starts again",
    ),
    (
        "<rect class=\"paused\" x=\"4\" y=\"1\" width=\"14\" height=\"16\" rx=\"3\"/>",
        "paused",
    ),
    (
        "<line class=\"cut\" x1=\"11\" y1=\"0\" x2=\"11\" y2=\"18\"/>",
        "cut off (dashed: in part)",
    ),
    (
        "<path class=\"decided\" d=\"M11 4l5 5-5 5-5-5z\"/>",
        "entry decided",
    ),
];

/// Classes of arrows.
const ARROWS: [(&str, &str); 8] = [
    ("election", "asks for a vote"),
    ("vote", "answer to it"),
    ("append", "entries"),
    ("reply", "answer to them"),
    ("request", "read, forward"),
    ("snapshot", "snapshot"),
    ("heartbeat", "heartbeat (thinned)"),
    ("client", "client"),
];

const LOST: &str = "<line class=\"m append lost\" x1=\"0\" y1=\"8\" x2=\"20\" y2=\"8\"/><path class=\"cross\" d=\"M20 4l7 8m0-8l-7 8\"/>";

fn arrow(class: &str) -> String {
    format!(
        "<line class=\"m {class}\" x1=\"0\" y1=\"6\" x2=\"22\" y2=\"12\"/>\
         <path class=\"head {class}-h\" d=\"M26 13l-7.4 1.6 1.8-6.2z\"/>"
    )
}

/// The legend in two rows, for a picture alone.
pub fn draw() -> String {
    let mut out = String::new();
    let bands = BANDS.map(|(mark, text)| (mark.to_owned(), text, 26.0));
    let arrows = ARROWS.map(|(class, text)| (arrow(class), text, 32.0));
    let lost = (LOST.to_owned(), "lost", 32.0);
    let rows = [bands.to_vec(), [&arrows[..], &[lost]].concat()];
    for (row, y) in rows.iter().zip([6, 36]) {
        let mut x = 8.0;
        for (mark, text, gap) in row {
            let _ = write!(
                out,
                "<g transform=\"translate({x:.0} {y})\">{mark}<text x=\"{gap:.0}\" y=\"13\">{text}</text></g>"
            );
            x += gap + 16.0 + text.len() as f64 * 6.2;
        }
    }
    out
}

/// The legend for a page, where it takes as many rows as it needs.
pub fn html() -> String {
    let mut out = String::from("<div class=\"legend\">");
    let mut put = |mark: &str, text: &str| {
        let _ = write!(
            out,
            "<span><svg width=\"30\" height=\"18\">{mark}</svg>{text}</span>"
        );
    };
    for (mark, text) in BANDS {
        put(mark, text);
    }
    for (class, text) in ARROWS {
        put(&arrow(class), text);
    }
    put(LOST, "lost");
    out + "</div>"
}
