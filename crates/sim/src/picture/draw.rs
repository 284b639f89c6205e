//! Lanes, bands, arrows and notes as SVG.

use super::axis::{Anchors, Axis, IDLE};
use super::choose::{choose, is_arrow};
use super::lanes::{Lanes, State};
use super::notes::{Seen, largest_side, note_of};
use super::{escape, style};
use crate::clock::Micros;
use crate::timeline::{Kind, Moment, What, Window, name, sentence};
use raft::Role;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Height of the lanes' names.
pub const HEADER_HEIGHT: u32 = 30;

/// Width of the times on the left.
const LEFT: f64 = 78.0;

/// Half the width of a band.
const HALF: f64 = 9.0;

/// Width of what clients say, and of the notes on the right.
const SAID_WIDTH: f64 = 205.0;
const NOTES_WIDTH: f64 = 450.0;
const LINE: f64 = 16.0;

/// A band is named again after this height.
const TERM_NAME_EVERY: f64 = 480.0;

/// Arrows have words on them as long as they are few.
const LABELLED_ARROWS_MAX: usize = 400;

/// A picture under the pencil.
pub struct Drawing {
    out: String,
    axis: Axis,
    lanes: Lanes,
    members: usize,
    window: (Micros, Micros),
    labelled: bool,
    clients: bool,
    left_out: usize,
    /// Where the next words of clients have room.
    said_free: f64,
}

impl Drawing {
    /// Draws the moments (in order of time) inside the window.
    pub fn new(
        moments: &[Moment],
        members: usize,
        window: Window,
        arrows_max: usize,
        unknown: u64,
    ) -> Drawing {
        let end = moments.last().map_or(0, |moment| moment.at) + 1;
        let (chosen, left_out) = choose(moments, window, arrows_max);
        let shown: Vec<&Moment> = chosen.iter().map(|place| &moments[*place]).collect();
        let mut drawing = Drawing {
            out: String::new(),
            axis: Anchors::default().axis(0.0),
            lanes: Lanes::read(moments, members, end),
            members,
            window: (
                window.from.max(shown.first().map_or(0, |moment| moment.at)),
                window.to.min(end),
            ),
            labelled: shown.iter().filter(|moment| is_arrow(moment)).count() <= LABELLED_ARROWS_MAX,
            clients: shown.iter().any(|moment| is_client(moment)),
            left_out: left_out + unknown as usize,
            said_free: 0.0,
        };
        drawing.axis = drawing.layout(&shown);
        drawing.grid();
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
        drawing.notes(&shown);
        drawing
    }

    /// Width of the picture.
    pub fn width(&self) -> u32 {
        (self.notes_x() + NOTES_WIDTH) as u32
    }

    /// Height of the body.
    pub fn height(&self) -> f64 {
        self.axis.bottom() + 60.0
    }

    /// The body.
    pub fn body(&self) -> &str {
        &self.out
    }

    /// Messages that are not drawn.
    pub fn left_out(&self) -> usize {
        self.left_out
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
        if self.clients {
            let _ = write!(
                out,
                "<text class=\"name\" x=\"{:.0}\" y=\"20\">clients</text>",
                self.client_x()
            );
        }
        out + "<text class=\"time\" x=\"66\" y=\"20\">seconds</text>"
    }

    // Where things are.

    fn lane_width(&self) -> f64 {
        match self.members {
            0..=3 => 170.0,
            4..=5 => 128.0,
            _ => 104.0,
        }
    }

    fn x(&self, member: usize) -> f64 {
        LEFT + self.lane_width() * (member as f64 + 0.5)
    }

    fn client_x(&self) -> f64 {
        LEFT + self.lane_width() * self.members as f64 + 24.0
    }

    fn notes_x(&self) -> f64 {
        let lanes = LEFT + self.lane_width() * self.members as f64;
        if self.clients {
            lanes + 40.0 + SAID_WIDTH
        } else {
            lanes + 10.0
        }
    }

    fn layout(&self, shown: &[&Moment]) -> Axis {
        let mut anchors = Anchors::default();
        anchors.add(self.window.0);
        let mut seen = Seen::default();
        for moment in shown {
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
                anchors.add_text(moment.at, 13.0);
            }
            if let Some((_, lines)) = note_of(moment, &mut seen) {
                anchors.add_text(moment.at, lines.len() as f64 * LINE);
            }
        }
        anchors.axis(12.0)
    }

    // Below the arrows.

    fn grid(&mut self) {
        let marks = self.axis.marks().to_vec();
        let right = self.notes_x();
        let (mut last_y, mut last_at) = (f64::MIN, None);
        for (at, y) in marks {
            if let Some(before) = last_at
                && at - before >= IDLE
            {
                let middle = (self.axis.y(before) + y) / 2.0;
                let idle = (at - before) as f64 / 1e6;
                let _ = write!(
                    self.out,
                    "<line class=\"idle\" x1=\"{LEFT:.0}\" x2=\"{right:.0}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>\
                     <text class=\"time\" x=\"66\" y=\"{:.1}\">{idle:.1} s later</text>",
                    middle + 3.0
                );
            }
            last_at = Some(at);
            if y - last_y >= 14.0 {
                last_y = y;
                let _ = write!(
                    self.out,
                    "<text class=\"time\" x=\"66\" y=\"{:.1}\">{}.{:03}</text>\
                     <line class=\"grid\" x1=\"70\" x2=\"{LEFT:.0}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>",
                    y + 3.0,
                    at / 1_000_000,
                    at / 1000 % 1000
                );
            }
        }
    }

    fn bands(&mut self) {
        let bottom = self.height() - 20.0;
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

    // Arrows.

    fn arrow(&mut self, moment: &Moment) {
        let Some(member) = moment.member else { return };
        match &moment.what {
            What::Sends {
                to,
                arrivals,
                kind,
                label,
                text,
            } => {
                let title = format!("{} to {}: {text}", name(member), name(*to));
                for (nth, arrival) in arrivals.iter().enumerate() {
                    match arrival {
                        Some(at) => {
                            self.message(moment.at, *at, member, *to, *kind, (label, &title))
                        }
                        None if nth == 0 => {
                            self.lost(moment.at, member, *to, *kind, (label, &title))
                        }
                        None => {}
                    }
                }
            }
            What::Asked { text, .. } => {
                let y = self.axis.y(moment.at);
                self.line(
                    (self.client_x(), y),
                    (self.x(member) + HALF, y),
                    "client",
                    "client asks",
                    false,
                );
                self.said(y, text, "said");
            }
            What::Answers { ok, text, .. } => {
                let y = self.axis.y(moment.at);
                let class = if *ok { "client" } else { "no" };
                self.line(
                    (self.x(member) + HALF, y),
                    (self.client_x(), y),
                    class,
                    text,
                    false,
                );
                self.said(y, text, if *ok { "said" } else { "said saidno" });
            }
            _ => {}
        }
    }

    fn said(&mut self, y: f64, text: &str, class: &str) {
        if self.labelled {
            let y = y.max(self.said_free);
            self.said_free = y + 13.0;
            let short: String = text.chars().take(36).collect();
            let _ = write!(
                self.out,
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                self.client_x() + 8.0,
                y + 4.0,
                escape(&short)
            );
        }
    }

    fn message(
        &mut self,
        sent: Micros,
        at: Micros,
        from: usize,
        to: usize,
        kind: Kind,
        words: (&str, &str),
    ) {
        let (label, title) = words;
        let arrives = self.lanes.state(to, at).alive() && !self.lanes.is_cut(from, to, at);
        let (start, end) = self.ends(
            from,
            to,
            self.axis.y(sent),
            self.axis.y(at.min(self.window.1)),
        );
        let title = if arrives {
            title.to_owned()
        } else {
            format!("{title} (nobody is there to hear it)")
        };
        self.line(start, end, class_of(kind), &title, !arrives);
        if self.labelled && !matches!(kind, Kind::Heartbeat | Kind::Request) {
            // In the gap where arrows of several members are apart: of answers the first one, of questions the last.
            let half_gap = 0.5 * self.lane_width() / (end.0 - start.0).abs().max(self.lane_width());
            let answers = matches!(kind, Kind::Vote | Kind::AppendReply);
            let part = if answers { half_gap } else { 1.0 - half_gap };
            let (x, y) = (
                start.0 + (end.0 - start.0) * part,
                start.1 + (end.1 - start.1) * part,
            );
            let _ = write!(
                self.out,
                "<text class=\"label\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                y - 2.0,
                escape(label)
            );
        }
    }

    fn lost(&mut self, sent: Micros, from: usize, to: usize, kind: Kind, words: (&str, &str)) {
        let y = self.axis.y(sent);
        let (start, end) = self.ends(from, to, y, y);
        let way = (end.0 - start.0).signum() * (self.lane_width() * 0.42);
        let title = format!("{} (lost)", words.1);
        self.line(
            start,
            (start.0 + way, y + 6.0),
            &format!("{} lost", class_of(kind)),
            &title,
            true,
        );
    }

    fn ends(&self, from: usize, to: usize, y: f64, y_end: f64) -> ((f64, f64), (f64, f64)) {
        let side = if to > from { HALF } else { -HALF };
        ((self.x(from) + side, y), (self.x(to) - side, y_end))
    }

    fn line(&mut self, start: (f64, f64), end: (f64, f64), class: &str, title: &str, fails: bool) {
        let (dx, dy) = (end.0 - start.0, end.1 - start.1);
        let length = (dx * dx + dy * dy).sqrt().max(1.0);
        let (ux, uy) = (dx / length, dy / length);
        let _ = write!(
            self.out,
            "<g><title>{}</title><line class=\"m {class}\" x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\"/>",
            escape(title),
            start.0,
            start.1,
            end.0 - ux * 5.0,
            end.1 - uy * 5.0
        );
        if fails {
            let (x, y) = (end.0 - ux * 5.0, end.1 - uy * 5.0);
            let _ = write!(
                self.out,
                "<path class=\"cross\" d=\"M{:.1} {:.1}l8 8m0-8l-8 8\"/></g>",
                x - 4.0,
                y - 4.0
            );
        } else {
            let (bx, by) = (end.0 - ux * 7.5, end.1 - uy * 7.5);
            let head = class.split(' ').next().unwrap_or(class);
            let _ = write!(
                self.out,
                "<path class=\"head {head}-h\" d=\"M{:.1} {:.1}L{:.1} {:.1}L{:.1} {:.1}z\"/></g>",
                end.0,
                end.1,
                bx - uy * 3.6,
                by + ux * 3.6,
                bx + uy * 3.6,
                by - ux * 3.6
            );
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
                let right = self.notes_x() - 6.0;
                let _ = write!(
                    self.out,
                    "<line class=\"badline\" x1=\"{LEFT:.0}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"
                );
            }
            _ => {}
        }
    }

    /// The terms' names on the bands of their leaders: where they begin, and again for whoever scrolls.
    fn term_names(&mut self) {
        let bottom = self.height() - 20.0;
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
                        "<rect class=\"x{}\" x=\"{:.1}\" y=\"{y:.1}\" width=\"48\" height=\"15\" rx=\"4\"/>\
                         <text class=\"termname\" x=\"{x:.1}\" y=\"{:.1}\">term {term}</text>",
                        colour(term),
                        x - 24.0,
                        y + 11.0
                    );
                    y += TERM_NAME_EVERY;
                }
            }
        }
    }

    fn notes(&mut self, shown: &[&Moment]) {
        let x = self.notes_x();
        let mut seen = Seen::default();
        let mut free = f64::MIN;
        for moment in shown {
            let Some((class, lines)) = note_of(moment, &mut seen) else {
                continue;
            };
            // Several notes of one time stand below each other.
            let mut y = (self.axis.y(moment.at) + 4.0).max(free);
            for line in lines {
                let _ = write!(
                    self.out,
                    "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                    escape(&line)
                );
                y += LINE;
            }
            free = y;
        }
    }
}

fn is_client(moment: &Moment) -> bool {
    matches!(moment.what, What::Asked { .. } | What::Answers { .. })
}

fn colour(term: u64) -> u64 {
    term.wrapping_sub(1) % style::TERMS as u64
}

fn class_of(kind: Kind) -> &'static str {
    match kind {
        Kind::Election => "election",
        Kind::Vote => "vote",
        Kind::Append => "append",
        Kind::AppendReply => "reply",
        Kind::Snapshot => "snapshot",
        Kind::Request => "request",
        Kind::Heartbeat => "heartbeat",
    }
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
