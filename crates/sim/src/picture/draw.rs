//! Lanes, bands, marks and notes as SVG; the arrows are in `arrows`.

mod arrows;

use super::axis::{Anchors, Axis, IDLE, logarithm};
use super::choose::{choose, is_arrow};
use super::lanes::{Lanes, State};
use super::layout::{HALF, Layout};
use super::notes::{Seen, largest_side, note_of, wrap};
use super::{escape, style};
use crate::clock::Micros;
use crate::timeline::{Moment, What, Window, name, sentence};
use raft::Role;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Height of the lanes' names.
pub const HEADER_HEIGHT: u32 = 30;

/// Height of a picture at most; what happens too often for that comes closer together.
pub const HEIGHT_MAX: f64 = 6_000.0;

/// Height of a line of a note, and of what clients say.
const LINE: f64 = 16.0;
const SAID: f64 = 13.0;

/// A band is named again after this height.
const TERM_NAME_EVERY: f64 = 480.0;

/// Arrows have words on them as long as they are few.
const LABELLED_ARROWS_MAX: usize = 400;

/// Lines of all notes at most.
const NOTE_LINES_MAX: usize = 200;

/// Room below the last thing that happens.
const FOOT: f64 = 30.0;

/// A picture under the pencil.
pub struct Drawing {
    out: String,
    axis: Axis,
    lanes: Lanes,
    layout: Layout,
    members: usize,
    window: (Micros, Micros),
    labelled: bool,
    left_out: usize,
}

impl Drawing {
    /// Draws the moments (in order of time) inside the window, at most so many as arrows.
    pub fn new(
        moments: &[Moment],
        members: usize,
        window: Window,
        arrows_max: usize,
        layout: fn(usize, bool) -> Layout,
    ) -> Drawing {
        let (chosen, left_out) = choose(moments, window, arrows_max);
        let shown: Vec<&Moment> = chosen.iter().map(|place| &moments[*place]).collect();
        let layout = layout(members, shown.iter().any(|moment| is_client(moment)));
        let arrows = shown.iter().filter(|moment| is_arrow(moment)).count();
        let mut drawing = Drawing::blank(moments, members, window, layout);
        drawing.labelled = arrows <= LABELLED_ARROWS_MAX;
        drawing.left_out = left_out;
        let notes = drawing.worded(&shown);
        drawing.axis = drawing.arrange(&shown, &notes);
        drawing.grid(true);
        drawing.bands();
        drawing.cuts();
        for moment in &shown {
            drawing.arrow(moment);
        }
        let mut decided = 0;
        for moment in &shown {
            drawing.mark(moment, &mut decided);
        }
        drawing.term_names();
        drawing.texts(&shown, &notes);
        drawing
    }

    /// Only the lanes of a whole run, as heights are given by an axis.
    pub fn overview(moments: &[Moment], members: usize, axis: Axis) -> Drawing {
        let layout = Layout::overview(members);
        let mut drawing = Drawing::blank(moments, members, Window::ALL, layout);
        drawing.axis = axis;
        drawing.grid(false);
        drawing.bands();
        drawing.cuts();
        for moment in moments {
            match &moment.what {
                What::Commits { .. } => {}
                _ => drawing.mark(moment, &mut 0),
            }
        }
        drawing.term_names();
        drawing
    }

    fn blank(moments: &[Moment], members: usize, window: Window, layout: Layout) -> Drawing {
        let end = moments.last().map_or(0, |moment| moment.at) + 1;
        Drawing {
            out: String::new(),
            axis: Anchors::default().axis(0.0, logarithm),
            lanes: Lanes::read(moments, members, end),
            layout,
            members,
            window: (window.from, window.to.min(end)),
            labelled: false,
            left_out: 0,
        }
    }

    /// Width of the picture.
    pub fn width(&self) -> f64 {
        self.layout.width()
    }

    /// Height of the body.
    pub fn height(&self) -> f64 {
        self.axis.bottom() + FOOT
    }

    /// The body.
    pub fn body(&self) -> &str {
        &self.out
    }

    /// Messages that are not drawn.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The first and the last time of it.
    pub fn window(&self) -> (Micros, Micros) {
        self.window
    }

    /// Where its columns are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The names of the lanes.
    pub fn header(&self) -> String {
        let mut out = String::new();
        for member in 0..self.members {
            let _ = write!(
                out,
                "<text class=\"name\" x=\"{:.0}\" y=\"20\">{}</text>",
                self.x(member),
                name(member)
            );
        }
        if let Some(x) = self.layout.client_x().filter(|_| !self.layout.across) {
            let _ = write!(
                out,
                "<text class=\"name\" x=\"{x:.0}\" y=\"20\">clients</text>"
            );
        }
        let x = self.layout.left - 12.0;
        out + &format!("<text class=\"time\" x=\"{x:.0}\" y=\"20\">seconds</text>")
    }

    fn x(&self, member: usize) -> f64 {
        self.layout.x(member)
    }

    /// The notes beside or across the lanes, in lines; too many are left out.
    fn worded(&self, shown: &[&Moment]) -> Vec<Option<Note>> {
        let mut seen = Seen::default();
        let mut lines_left = NOTE_LINES_MAX;
        let worded = |moment: &&Moment| {
            let (class, text) = note_of(moment, &mut seen)?;
            let lines = wrap(&text, self.layout.note_chars);
            lines_left = lines_left.checked_sub(lines.len())?;
            Some((class, lines))
        };
        shown.iter().map(worded).collect()
    }

    fn arrange(&self, shown: &[&Moment], notes: &[Option<Note>]) -> Axis {
        let mut anchors = Anchors::with_rows(self.layout.across);
        anchors.add(self.window.0);
        for (moment, note) in shown.iter().zip(notes) {
            anchors.add(moment.at);
            if let What::Sends { arrivals, .. } = &moment.what {
                let near = |at: &&Micros| **at < self.window.1;
                arrivals
                    .iter()
                    .flatten()
                    .filter(near)
                    .for_each(|at| anchors.add(*at));
            }
            if self.labelled && is_client(moment) {
                anchors.add_text(moment.at, SAID);
            }
            if let Some((_, lines)) = note {
                anchors.add_text(moment.at, lines.len() as f64 * LINE);
            }
        }
        let free = anchors.clone().axis(12.0, logarithm);
        let room = (HEIGHT_MAX - FOOT - 12.0 - anchors.texts()).max(0.0);
        match free.bottom() + FOOT > HEIGHT_MAX {
            true => {
                let gaps: f64 = anchors.gaps(logarithm).sum();
                anchors.axis(12.0, |idle| logarithm(idle) * room / gaps)
            }
            false => free,
        }
    }

    // Below the arrows.

    fn grid(&mut self, idle_is_said: bool) {
        let marks = self.axis.marks().to_vec();
        let (left, right) = (self.layout.left, self.layout.lanes_end());
        let x = left - 12.0;
        let (mut last_y, mut last_at) = (f64::MIN, None);
        for (at, y) in marks {
            if let Some(before) = last_at
                && at - before >= IDLE
                && idle_is_said
            {
                let middle = (self.axis.y(before) + y) / 2.0;
                let idle = (at - before) as f64 / 1e6;
                let idle = match self.layout.across {
                    true => format!("+{idle:.1} s"),
                    false => format!("{idle:.1} s later"),
                };
                let _ = write!(
                    self.out,
                    "<line class=\"idle\" x1=\"{left:.0}\" x2=\"{right:.0}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
                     <text class=\"time\" x=\"{x:.0}\" y=\"{:.1}\">{idle}</text>",
                    middle + 3.0
                );
            }
            last_at = Some(at);
            if y - last_y >= 14.0 {
                last_y = y;
                let _ = write!(
                    self.out,
                    "<text class=\"time\" x=\"{x:.0}\" y=\"{:.1}\">{}.{:03}</text>\
                     <line class=\"grid\" x1=\"{:.0}\" x2=\"{left:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                    y + 3.0,
                    at / 1_000_000,
                    at / 1000 % 1000,
                    x + 4.0
                );
            }
        }
    }

    fn bands(&mut self) {
        let bottom = self.height() - FOOT / 2.0;
        for member in 0..self.members {
            let x = self.x(member);
            let _ = write!(
                self.out,
                "<line class=\"rail\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"4\" y2=\"{bottom:.1}\"/>"
            );
            for place in 0..self.lanes.members[member].len() {
                let span = self.lanes.members[member][place].clone();
                let (from, to) = (span.from.max(self.window.0), span.to.min(self.window.1));
                if from >= to {
                    continue;
                }
                let top = self.axis.y(from);
                let end = if to >= self.window.1 {
                    bottom
                } else {
                    self.axis.y(to)
                };
                let since = format!(
                    "{} {} from {:.3} s to {:.3} s",
                    name(member),
                    state_text(span.state),
                    span.from as f64 / 1e6,
                    span.to as f64 / 1e6
                );
                self.band(x, top, (end - top).max(1.5), span.state, &since);
            }
        }
    }

    fn band(&mut self, x: f64, top: f64, height: f64, state: State, title: &str) {
        let (class, half) = match state {
            State::Killed | State::Dark => return,
            State::Paused => ("paused".into(), HALF - 2.0),
            State::Runs {
                role: Role::Leader,
                term,
            } => (format!("leads t{}", colour(term)), HALF),
            State::Runs {
                role: Role::Candidate,
                term,
            } => (format!("stands t{}", colour(term)), HALF - 2.0),
            // It asks about the term that would come next.
            State::Runs {
                role: Role::PreCandidate,
                term,
            } => (format!("stands t{}", colour(term + 1)), HALF - 2.0),
            State::Runs { term: 0, .. } => ("fresh".into(), HALF - 3.0),
            State::Runs { term, .. } => (format!("follows t{}", colour(term)), HALF - 3.0),
        };
        let _ = write!(
            self.out,
            "<rect class=\"{class}\" x=\"{:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{height:.1}\" rx=\"3\"><title>{}</title></rect>",
            x - half,
            half * 2.0,
            escape(title)
        );
    }

    /// Red bars beside members that are cut off: whole for those who are not with most, dashed for those who miss some links only.
    fn cuts(&mut self) {
        let cuts = self.lanes.cuts.clone();
        for cut in cuts {
            let (from, to) = (cut.from.max(self.window.0), cut.to.min(self.window.1));
            if from >= to {
                continue;
            }
            let most = largest_side(self.members, &cut.links);
            for member in 0..self.members {
                let list = |ends: BTreeSet<usize>| {
                    let names: Vec<String> = ends.into_iter().map(name).collect();
                    if names.is_empty() {
                        "nobody".into()
                    } else {
                        names.join(" ")
                    }
                };
                let unreached: BTreeSet<usize> = cut
                    .links
                    .iter()
                    .filter(|(a, _)| *a == member)
                    .map(|(_, b)| *b)
                    .collect();
                let unheard: BTreeSet<usize> = cut
                    .links
                    .iter()
                    .filter(|(_, b)| *b == member)
                    .map(|(a, _)| *a)
                    .collect();
                let whole = !most.contains(&member);
                let partly = unreached != unheard;
                if !whole && !partly {
                    continue;
                }
                let x = self.x(member) - HALF - 7.0;
                let _ = write!(
                    self.out,
                    "<line class=\"cut{}\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"><title>{}: does not reach {}; does not hear {}</title></line>",
                    if whole { "" } else { " cutpart" },
                    self.axis.y(from),
                    self.axis.y(to),
                    name(member),
                    list(unreached),
                    list(unheard)
                );
            }
        }
    }

    // On top.

    fn mark(&mut self, moment: &Moment, decided: &mut u64) {
        let y = self.axis.y(moment.at);
        let x = moment.member.map_or(0.0, |member| self.x(member));
        let title = escape(&sentence(moment));
        match &moment.what {
            What::Commits { commit } if commit > decided => {
                *decided = *commit;
                let _ = write!(
                    self.out,
                    "<path class=\"decided\" d=\"M{x:.1} {:.1}l5 5-5 5-5-5z\"><title>{title}</title></path>",
                    y - 5.0
                );
                if self.labelled {
                    let _ = write!(
                        self.out,
                        "<text class=\"decidedname\" x=\"{:.1}\" y=\"{:.1}\">{commit} decided</text>",
                        x - HALF - 12.0,
                        y + 4.0
                    );
                }
            }
            What::Dies { .. } => {
                let _ = write!(
                    self.out,
                    "<path class=\"cross\" d=\"M{:.1} {:.1}l12 12m0-12l-12 12\"><title>{title}</title></path>",
                    x - 6.0,
                    y - 6.0
                );
            }
            What::Starts { .. } if moment.at > 0 => {
                let _ = write!(
                    self.out,
                    "<path class=\"start\" d=\"M{:.1} {:.1}l7 -9l7 9z\"><title>{title}</title></path>",
                    x - 7.0,
                    y + 4.0
                );
            }
            What::Violation { .. } => {
                let (left, right) = (self.layout.left, self.layout.lanes_end());
                let _ = write!(
                    self.out,
                    "<line class=\"badline\" x1=\"{left:.0}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                );
            }
            _ => {}
        }
    }

    /// The terms' names on the bands of their leaders: where they begin, and again for whoever scrolls. Thin lanes have room for the number only.
    fn term_names(&mut self) {
        let (word, half) = match self.layout.lane > 50.0 {
            true => ("term ", 24.0),
            false => ("", 11.0),
        };
        let bottom = self.height() - FOOT / 2.0;
        for member in 0..self.members {
            for span in &self.lanes.members[member] {
                let State::Runs {
                    role: Role::Leader,
                    term,
                } = span.state
                else {
                    continue;
                };
                let (from, to) = (span.from.max(self.window.0), span.to.min(self.window.1));
                if from >= to {
                    continue;
                }
                let (x, mut y) = (self.x(member), self.axis.y(from));
                let end = if to >= self.window.1 {
                    bottom
                } else {
                    self.axis.y(to)
                };
                while y < end {
                    let _ = write!(
                        self.out,
                        "<rect class=\"x{}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.0}\" height=\"15\" rx=\"4\"/>\
                         <text class=\"termname\" x=\"{x:.1}\" y=\"{:.1}\">{word}{term}</text>",
                        colour(term),
                        x - half,
                        half * 2.0,
                        y + 11.0
                    );
                    y += TERM_NAME_EVERY;
                }
            }
        }
    }

    /// Notes, and what clients say. Several texts of one time stand below each other; across the lanes all of them, beside them each kind for itself.
    fn texts(&mut self, shown: &[&Moment], notes: &[Option<Note>]) {
        let x = self.layout.notes_x();
        let (mut free, mut said_free) = (f64::MIN, f64::MIN);
        for (moment, note) in shown.iter().zip(notes) {
            // In a row of its own a text stands below what happens then.
            let at = self.axis.y(moment.at) + if self.layout.across { 12.0 } else { 4.0 };
            if let Some((class, lines)) = note {
                let mut y = at.max(free);
                for line in lines {
                    let _ = write!(
                        self.out,
                        "<text class=\"{class} over\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                        escape(line)
                    );
                    y += LINE;
                }
                free = y;
            }
            if self.labelled {
                let own = if self.layout.across {
                    &mut free
                } else {
                    &mut said_free
                };
                let y = at.max(*own);
                if self.said(moment, y) {
                    *own = y + SAID;
                }
            }
            if self.layout.across {
                said_free = free;
            }
        }
    }
}

/// A text beside the lanes: its class and its lines.
type Note = (&'static str, Vec<String>);

fn is_client(moment: &Moment) -> bool {
    matches!(moment.what, What::Asked { .. } | What::Answers { .. })
}

fn colour(term: u64) -> u64 {
    term.wrapping_sub(1) % style::TERMS as u64
}

fn state_text(state: State) -> String {
    match state {
        State::Killed => "is down".into(),
        State::Dark => "is without power".into(),
        State::Paused => "is paused".into(),
        State::Runs {
            role: Role::Leader,
            term,
        } => format!("leads term {term}"),
        State::Runs {
            role: Role::Follower,
            term,
        } => format!("is a follower in term {term}"),
        State::Runs { term, .. } => format!("asks for votes, term {term}"),
    }
}
