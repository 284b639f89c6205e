//! A whole run at a glance: thin lanes, and a line for each thing that a reader wants to know first. Its height is bounded, however long the run.

use super::axis::Anchors;
use super::draw::{Drawing, HEADER_HEIGHT};
use super::escape;
use super::notes::{Seen, note_of};
use crate::clock::Micros;
use crate::timeline::{Moment, What};
use raft::Role;
use std::fmt::Write;

/// Height of a line.
const LINE: f64 = 16.0;

/// Lines at most.
const LINES_MAX: usize = 100;

/// Height that the time takes, beside the lines.
const TIME_HEIGHT: f64 = 640.0;

/// A second takes no more than this.
const SECOND_MAX: f64 = 10.0;

/// Times are named at least so often.
const TICKS: u64 = 10;

/// Room above the first line.
const TOP: f64 = 12.0;

/// See the module.
pub struct Overview {
    drawing: Drawing,
    /// Where a line stands, its class and what it says.
    lines: Vec<(f64, &'static str, String)>,
    /// The places of faults.
    faults: Vec<f64>,
    left_out: usize,
}

/// What is said of a moment, its class, and how much a reader wants to know it: less is more.
struct Line {
    at: Micros,
    class: &'static str,
    text: String,
    rank: u8,
}

impl Overview {
    /// Of all moments, in order of time.
    pub fn new(moments: &[Moment], members: usize) -> Overview {
        let end = moments.last().map_or(0, |moment| moment.at);
        let said = lines(moments);
        let all = said.len();
        let said = fit(said);
        let mut anchors = Anchors::default();
        let step = (end / TICKS).max(1_000_000).next_multiple_of(1_000_000);
        (0..=end / step).for_each(|tick| anchors.add(tick * step));
        anchors.add(end);
        said.iter().for_each(|line| anchors.add_text(line.at, LINE));
        let second = (TIME_HEIGHT * 1e6 / end.max(1) as f64).min(SECOND_MAX);
        let axis = anchors.axis(TOP, |idle| idle as f64 / 1e6 * second);
        let mut free = f64::MIN;
        let place = |line: Line| {
            let y = axis.y(line.at).max(free);
            free = y + LINE;
            (y, line.class, line.text)
        };
        let lines: Vec<_> = said.into_iter().map(place).collect();
        let is_fault = |moment: &&Moment| matches!(moment.what, What::Fault(_));
        let faults = moments.iter().filter(is_fault);
        let faults = faults.map(|moment| axis.y(moment.at)).collect();
        Overview {
            drawing: Drawing::overview(moments, members, axis),
            left_out: all - lines.len(),
            lines,
            faults,
        }
    }

    /// Things that happened and have no line.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Its height.
    pub fn height(&self) -> f64 {
        f64::from(HEADER_HEIGHT) + self.drawing.height()
    }

    /// The lanes, with their names.
    fn lanes(&self) -> String {
        let mut out = self.drawing.header();
        let x = self.drawing.layout().left - 4.0;
        let _ = write!(
            out,
            "<g transform=\"translate(0 {HEADER_HEIGHT})\">{}",
            self.drawing.body()
        );
        for y in &self.faults {
            let _ = write!(
                out,
                "<circle class=\"bad\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2\"/>"
            );
        }
        out + "</g>"
    }

    /// For a page: the lines take the room that is there.
    pub fn page(&self) -> String {
        let mut out = format!(
            "<div class=\"life\"><svg width=\"{:.0}\" height=\"{:.0}\">{}</svg><div>",
            self.drawing.layout().lanes_end() + 6.0,
            self.height(),
            self.lanes()
        );
        for (y, class, text) in &self.lines {
            let (top, text) = (y + f64::from(HEADER_HEIGHT) - LINE / 2.0, escape(text));
            let _ = write!(
                out,
                "<p class=\"{class}\" tabindex=\"0\" style=\"top:{top:.0}px\">{text}</p>"
            );
        }
        out + "</div></div>"
    }

    /// For a picture alone.
    pub fn svg(&self) -> String {
        let mut out = self.lanes();
        let x = self.drawing.layout().lanes_end() + 12.0;
        for (y, class, text) in &self.lines {
            let y = y + f64::from(HEADER_HEIGHT) + 4.0;
            let _ = write!(
                out,
                "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>",
                escape(text)
            );
        }
        out
    }
}

fn lines(moments: &[Moment]) -> Vec<Line> {
    let mut seen = Seen::default();
    let mut lines = Vec::new();
    for moment in moments {
        let Some((class, text)) = note_of(moment, &mut seen) else {
            continue;
        };
        let rank = match &moment.what {
            What::Violation { .. } | What::Healed | What::Note(_) => 0,
            What::Role {
                role: Role::Candidate,
                ..
            } => continue,
            What::Role { .. } => 1,
            What::Fault(_) | What::Dies { .. } | What::CannotStart(_) => 2,
            _ => 3,
        };
        let at = moment.at;
        lines.push(Line {
            at,
            class,
            text,
            rank,
        });
    }
    lines
}

/// As many as have room; of those that say least, every n-th goes.
fn fit(mut lines: Vec<Line>) -> Vec<Line> {
    for rank in [3, 2, 1, 0] {
        let excess = lines.len().saturating_sub(LINES_MAX);
        let of_rank = lines.iter().filter(|line| line.rank == rank).count();
        let (mut nth, gone) = (0, excess.min(of_rank));
        lines.retain(|line| {
            if line.rank != rank {
                return true;
            }
            // Those that go are spread over all.
            let goes = (nth + 1) * gone / of_rank > nth * gone / of_rank;
            nth += 1;
            !goes
        });
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_most_stays_where_there_is_no_room_for_all() {
        let line = |n: u64| Line {
            at: n,
            class: "fact",
            text: String::new(),
            rank: if n.is_multiple_of(10) { 0 } else { 2 },
        };
        let kept = fit((0..500).map(line).collect());
        assert_eq!(kept.len(), LINES_MAX);
        assert_eq!(kept.iter().filter(|line| line.rank == 0).count(), 50);
        let faults: Vec<u64> = kept.iter().filter(|l| l.rank == 2).map(|l| l.at).collect();
        assert!(
            faults[0] < 20 && faults[49] > 480,
            "spread over all: {faults:?}"
        );
    }
}
