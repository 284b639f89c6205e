//! A run as a picture: members as lanes, time downwards, messages as arrows, leadership as colour, faults marked. Self-contained, bounded in
//! size, and readable on a phone and on a desktop, in light and in dark surroundings.

mod axis;
mod choose;
mod draw;
mod lanes;
mod layout;
mod legend;
mod notes;
mod overview;
mod part;
pub(crate) mod style;

use crate::clock::Micros;
use crate::timeline::{Moment, Timeline, Window};
use draw::{Drawing, HEADER_HEIGHT};
use layout::Layout;
use overview::Overview;
use part::{Part, choose_part};
use std::fmt::Write;

/// Arrows of a picture at most.
const ARROWS_MAX: usize = 500;

/// Characters of a line above a picture alone.
const HEADING_CHARS: usize = 170;

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
    /// What is drawn.
    pub view: View,
}

/// What of a run is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Each message of a window.
    Window(Window),
    /// All of the run at a glance, then each message of a window; without one, of what a reader wants to see first.
    Overview(Option<Window>),
}

/// A picture in its parts.
struct Parts {
    overview: Option<Overview>,
    part: Part,
    moments: Vec<Moment>,
}

impl Picture<'_> {
    /// A page that shows it, for a browser. Needs nothing else.
    pub fn page(&self) -> String {
        let parts = self.parts();
        let mut body = legend::html();
        let drawings = [
            ("wide", self.draw(&parts, Layout::wide)),
            ("narrow", self.draw(&parts, Layout::narrow)),
        ];
        let (_, wide) = &drawings[0];
        if let Some(overview) = &parts.overview {
            let _ = write!(
                body,
                "<h2>All of it</h2><p>{}</p>{}<h2>{}</h2><p>{}</p>",
                escape(&about_overview(overview)),
                overview.page(),
                escape(&heading(&parts.part, wide)),
                escape(&self.about_part(wide)),
            );
        } else if self.left_out(wide) > 0 {
            let _ = write!(body, "<p>{}</p>", escape(&self.about_part(wide)));
        }
        for (class, drawing) in &drawings {
            let (width, height) = (drawing.width(), drawing.height());
            let _ = write!(
                body,
                "<div class=\"{class}\"><div class=\"lanes\"><svg viewBox=\"0 0 {width:.0} {HEADER_HEIGHT}\" width=\"{width:.0}\" height=\"{HEADER_HEIGHT}\">{}</svg></div>\
                 <svg viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">{}</svg></div>",
                drawing.header(),
                drawing.body(),
            );
        }
        page(&self.title, &self.notes, &body)
    }

    /// The picture alone, for a document. A run is named and judged in it; what a scenario shows is said beside it.
    pub fn svg(&self) -> String {
        let parts = self.parts();
        let drawing = self.draw(&parts, Layout::wide);
        let mut sheet = Sheet::default();
        if let Some(overview) = &parts.overview {
            sheet.text("title", &self.title);
            self.notes.iter().for_each(|note| sheet.note(note));
            sheet.add(f64::from(legend::HEIGHT), &legend::draw());
            sheet.text("title", "All of it");
            sheet.text("fact", &about_overview(overview));
            sheet.add(overview.height(), &overview.svg());
            sheet.text("title", &heading(&parts.part, &drawing));
            sheet.text("fact", &self.about_part(&drawing));
        } else {
            sheet.add(f64::from(legend::HEIGHT), &legend::draw());
        }
        sheet.add(f64::from(HEADER_HEIGHT), &drawing.header());
        sheet.add(drawing.height(), drawing.body());
        let (width, height) = (drawing.width(), sheet.height);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height:.0}\" width=\"{width:.0}\" height=\"{height:.0}\">\
             <title>{}</title><style>{}</style><rect class=\"bg\" width=\"100%\" height=\"100%\"/>{}</svg>\n",
            escape(&self.title),
            style::sheet(),
            sheet.out,
        )
    }

    /// Which part of the run it draws message by message.
    pub fn window(&self) -> Window {
        self.parts().part.window
    }

    fn parts(&self) -> Parts {
        let mut moments: Vec<Moment> = self.timeline.moments().to_vec();
        moments.sort_by_key(|moment| moment.at);
        let overview = match self.view {
            View::Overview(_) => Some(Overview::new(&moments, self.members)),
            View::Window(_) => None,
        };
        let part = match self.view {
            View::Overview(None) => choose_part(&moments, self.members),
            View::Window(window) | View::Overview(Some(window)) => Part {
                window,
                what: "as asked for",
            },
        };
        Parts {
            overview,
            part,
            moments,
        }
    }

    fn draw(&self, parts: &Parts, layout: fn(usize, bool) -> Layout) -> Drawing {
        let window = parts.part.window;
        Drawing::new(&parts.moments, self.members, window, ARROWS_MAX, layout)
    }

    fn left_out(&self, drawing: &Drawing) -> u64 {
        drawing.left_out() as u64 + self.timeline.left_out()
    }

    fn about_part(&self, drawing: &Drawing) -> String {
        let left_out = match self.left_out(drawing) {
            0 => String::new(),
            messages => {
                format!(
                    "{messages} messages are not drawn: most heartbeats, and what had no room. "
                )
            }
        };
        match self.view {
            View::Window(_) => left_out,
            View::Overview(_) => format!(
                "{left_out}Another part is drawn with --from and --to, such as --from 12s --to 13500ms; a smaller one shows more. --trace tells the run in words."
            ),
        }
    }
}

fn about_overview(overview: &Overview) -> String {
    let left_out = match overview.left_out() {
        0 => String::new(),
        more => format!(" {more} more of what happened had no room for words; --trace tells them."),
    };
    format!(
        "Time runs downwards; each member has a lane. A red dot on the left is a fault, or what mends it.{left_out}"
    )
}

fn heading(part: &Part, drawing: &Drawing) -> String {
    let seconds = |at: Micros| format!("{}.{:03} s", at / 1_000_000, at / 1000 % 1000);
    let (from, to) = drawing.window();
    let (from, to) = (seconds(from), seconds(to));
    format!("Message by message, {from} to {to}: {}", part.what)
}

/// Parts of a picture alone below each other.
#[derive(Default)]
struct Sheet {
    out: String,
    height: f64,
}

impl Sheet {
    fn add(&mut self, height: f64, part: &str) {
        let _ = write!(
            self.out,
            "<g transform=\"translate(0 {:.0})\">{part}</g>",
            self.height
        );
        self.height += height;
    }

    fn text(&mut self, class: &str, text: &str) {
        for line in notes::wrap(text, HEADING_CHARS) {
            let text = escape(&line);
            let line = format!("<text class=\"{class}\" x=\"10\" y=\"17\">{text}</text>");
            self.add(if class == "title" { 26.0 } else { 20.0 }, &line);
        }
    }

    fn note(&mut self, note: &str) {
        let (wrong, text) = marked(note);
        self.text(if wrong { "badtext" } else { "fact" }, &text);
    }
}

const PAGE: &str = "\
body{margin:16px;background:#ffffff;color:#1f2937;font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;overflow-wrap:anywhere}\
h1{font-size:20px;margin:0 0 8px}h2{font-size:16px;margin:24px 0 6px}p{margin:3px 0;font-size:13px;max-width:1100px}.wrong{color:#dc2626;font-weight:700}\
.lanes{position:sticky;top:0;background:#ffffff;z-index:1}svg{display:block}\
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;margin:12px 0;font-size:12px}.legend span{display:flex;align-items:center;gap:6px}\
.life{display:flex}.life svg{flex:none}.life div{position:relative;flex:1;min-width:0}\
.life p{position:absolute;left:4px;right:0;margin:0;font-size:12px;line-height:16px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis;outline:none}\
.life p:focus{white-space:normal;overflow:visible;z-index:1;background:#ffffff}\
.life .fault{color:#b91c1c}.life .fact{color:#4b5563}.life .badtext{color:#dc2626}\
.narrow svg{width:100%;max-width:560px;height:auto}.wide{display:none}\
@media(min-width:1300px){body{margin:24px}.wide{display:block}.narrow{display:none}}\
@media(prefers-color-scheme:dark){body,.lanes,.life p:focus{background:#0f172a;color:#e5e7eb}.wrong{color:#fca5a5}\
.life .fault,.life .badtext{color:#fca5a5}.life .fact{color:#9ca3af}}";

/// A page around pictures, with a title and notes.
pub(crate) fn page(title: &str, notes: &[String], body: &str) -> String {
    let (title, sheet) = (escape(title), style::sheet());
    let mut page = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}</title><style>{PAGE}{sheet}</style></head><body><h1>{title}</h1>"
    );
    for note in notes {
        let (wrong, text) = marked(note);
        let class = if wrong { " class=\"wrong\"" } else { "" };
        let _ = write!(page, "<p{class}>{}</p>", escape(&text));
    }
    page + body + "</body></html>\n"
}

/// A note as it is shown, and whether it is bad news.
fn marked(note: &str) -> (bool, String) {
    let text = note.trim_start();
    match text.split_once("  ") {
        Some(("yes", held)) => (false, format!("✓ {held}")),
        Some(("NO", wrong)) => (true, format!("✗ {wrong}")),
        _ => (text.starts_with("VIOLATION"), text.into()),
    }
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
