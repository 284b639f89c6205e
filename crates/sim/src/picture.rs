//! A run as a picture: members as lanes, time downwards, messages as arrows, leadership as colour, faults marked. Self-contained, bounded in
//! size, and readable in light and in dark surroundings.

mod axis;
mod choose;
mod draw;
mod lanes;
mod legend;
mod notes;
pub(crate) mod style;

use crate::timeline::{Moment, Timeline, Window};
use draw::Drawing;
use std::fmt::Write;

/// Arrows of a picture at most.
const ARROWS_MAX: usize = 1_200;

/// A picture to be drawn.
pub struct Picture<'a> {
    /// What it shows, in a line.
    pub title: String,
    /// More about it, a line each; one that begins with "yes", "NO" or "VIOLATION" is marked as such.
    pub notes: Vec<String>,
    /// What happened.
    pub timeline: &'a Timeline,
    /// Number of members, spare machines included.
    pub members: usize,
    /// Which part of it is drawn.
    pub window: Window,
}

impl Picture<'_> {
    /// A page that shows it, for a browser. Needs nothing else.
    pub fn page(&self) -> String {
        let drawing = self.draw();
        let mut body = String::new();
        let (width, legend_height) = (drawing.width(), legend::HEIGHT);
        let _ = write!(
            body,
            "<svg width=\"{width}\" height=\"{legend_height}\">{}</svg>\
             <div class=\"lanes\"><svg width=\"{width}\" height=\"{}\">{}</svg></div>\
             <svg width=\"{width}\" height=\"{:.0}\">{}</svg>",
            legend::draw(),
            draw::HEADER_HEIGHT,
            drawing.header(),
            drawing.height(),
            drawing.body(),
        );
        if drawing.left_out() > 0 {
            let _ = write!(
                body,
                "<p>{} messages are not drawn: most heartbeats, and what had no room. A smaller window (--from, --to) shows more.</p>",
                drawing.left_out()
            );
        }
        page(&self.title, &self.notes, &body)
    }

    /// The picture alone, for a document.
    pub fn svg(&self) -> String {
        let drawing = self.draw();
        let width = drawing.width();
        let top = legend::HEIGHT as f64 + f64::from(draw::HEADER_HEIGHT);
        let height = top + drawing.height();
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height:.0}\" width=\"{width}\" height=\"{height:.0}\">\
             <title>{}</title><style>{}</style><rect class=\"bg\" width=\"100%\" height=\"100%\"/>{}\
             <g transform=\"translate(0 {})\">{}</g><g transform=\"translate(0 {top})\">{}</g></svg>\n",
            escape(&self.title),
            style::sheet(),
            legend::draw(),
            legend::HEIGHT,
            drawing.header(),
            drawing.body(),
        )
    }

    fn draw(&self) -> Drawing {
        let mut moments: Vec<Moment> = self.timeline.moments().to_vec();
        moments.sort_by_key(|moment| moment.at);
        Drawing::new(
            &moments,
            self.members,
            self.window,
            ARROWS_MAX,
            self.timeline.left_out(),
        )
    }
}

const PAGE: &str = "\
body{margin:24px;background:#ffffff;color:#1f2937;font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\
h1{font-size:20px;margin:0 0 8px}p{margin:3px 0;font-size:13px;max-width:1100px}.wrong{color:#dc2626;font-weight:700}\
.lanes{position:sticky;top:0;background:#ffffff;z-index:1}svg{display:block}\
@media(prefers-color-scheme:dark){body,.lanes{background:#0f172a;color:#e5e7eb}.wrong{color:#fca5a5}}";

/// A page around pictures, with a title and notes.
pub(crate) fn page(title: &str, notes: &[String], body: &str) -> String {
    let (title, sheet) = (escape(title), style::sheet());
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{PAGE}{sheet}</style></head><body><h1>{title}</h1>"
    );
    for note in notes {
        let text = note.trim_start();
        let (class, text) = match text.split_once("  ") {
            Some(("yes", held)) => ("", format!("✓ {held}")),
            Some(("NO", wrong)) => (" class=\"wrong\"", format!("✗ {wrong}")),
            _ if text.starts_with("VIOLATION") => (" class=\"wrong\"", text.into()),
            _ => ("", text.into()),
        };
        let _ = write!(page, "<p{class}>{}</p>", escape(&text));
    }
    page + body + "</body></html>\n"
}

/// Text as it may stand in XML.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}
