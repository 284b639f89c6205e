//! What the marks of a picture mean.

use std::fmt::Write;

/// Height of the legend.
pub const HEIGHT: u32 = 58;

/// Draws the legend.
pub fn draw() -> String {
    let mut out = String::new();
    let mut x = 8.0;
    let mut band = |mark: &str, text: &str| {
        let _ = write!(
            out,
            "<g transform=\"translate({x:.0} 6)\">{mark}<text x=\"26\" y=\"13\">{text}</text></g>"
        );
        x += 44.0 + text.len() as f64 * 6.4;
    };
    band(
        "<rect class=\"leads t0\" x=\"3\" width=\"16\" height=\"18\" rx=\"3\"/>",
        "leads (a colour per term)",
    );
    band(
        "<rect class=\"follows t0\" x=\"5\" width=\"12\" height=\"18\" rx=\"3\"/>",
        "follows in that term",
    );
    band(
        "<rect class=\"stands t0\" x=\"4\" y=\"1\" width=\"14\" height=\"16\" rx=\"3\"/>",
        "asks for votes",
    );
    band(
        "<line class=\"rail\" x1=\"11\" y1=\"0\" x2=\"11\" y2=\"18\"/><path class=\"cross\" d=\"M7 5l8 8m0-8l-8 8\"/>",
        "down",
    );
    band(
        "<rect class=\"paused\" x=\"4\" y=\"1\" width=\"14\" height=\"16\" rx=\"3\"/>",
        "paused",
    );
    band(
        "<line class=\"cut\" x1=\"11\" y1=\"0\" x2=\"11\" y2=\"18\"/>",
        "cut off (dashed: in part)",
    );
    band(
        "<path class=\"decided\" d=\"M11 4l5 5-5 5-5-5z\"/>",
        "entry decided",
    );
    let mut x = 8.0;
    let mut arrow = |class: &str, text: &str| {
        let _ = write!(
            out,
            "<g transform=\"translate({x:.0} 36)\"><line class=\"m {class}\" x1=\"0\" y1=\"6\" x2=\"22\" y2=\"12\"/>\
             <path class=\"head {class}-h\" d=\"M26 13l-7.4 1.6 1.8-6.2z\"/><text x=\"32\" y=\"13\">{text}</text></g>"
        );
        x += 50.0 + text.len() as f64 * 6.4;
    };
    arrow("election", "asks for a vote");
    arrow("vote", "answer to it");
    arrow("append", "entries");
    arrow("reply", "answer to them");
    arrow("request", "read, forward");
    arrow("snapshot", "snapshot");
    arrow("heartbeat", "heartbeat (thinned)");
    arrow("client", "client");
    let _ = write!(
        out,
        "<g transform=\"translate({x:.0} 36)\"><line class=\"m append lost\" x1=\"0\" y1=\"8\" x2=\"20\" y2=\"8\"/>\
         <path class=\"cross\" d=\"M20 4l7 8m0-8l-7 8\"/><text x=\"32\" y=\"13\">lost</text></g>"
    );
    out
}
