//! The part of a run that is drawn message by message, if nobody chose one: what led to a broken promise, or the first change of leaders, as
//! long as it stays readable.

use super::draw::Drawing;
use super::layout::Layout;
use super::{ARROWS_MAX, choose};
use crate::clock::Micros;
use crate::timeline::{Moment, What, Window};
use raft::Role;

/// A picture is readable up to this height.
const READABLE: f64 = 3_000.0;

/// Lengths of a part, the first that is readable is taken.
const LENGTHS: [Micros; 9] = [
    3_000_000, 2_000_000, 1_400_000, 1_000_000, 700_000, 500_000, 300_000, 200_000, 100_000,
];

/// A part, and what it shows.
pub struct Part {
    /// From when to when.
    pub window: Window,
    /// What a reader sees there.
    pub what: &'static str,
}

/// Chooses a part of a run, given in order of time.
pub fn choose_part(moments: &[Moment], members: usize) -> Part {
    let end = moments.last().map_or(0, |moment| moment.at) + 1;
    let (focus, what) = focus(moments);
    let window = |length: Micros| Window {
        from: focus.saturating_sub(length * 2 / 3),
        to: (focus + length / 3).min(end),
    };
    let readable = |window: &Window| {
        let drawing = Drawing::new(moments, members, *window, ARROWS_MAX, Layout::wide);
        drawing.height() <= READABLE && drawing.left_out() == heartbeats(moments, *window)
    };
    let mut windows = LENGTHS.into_iter().map(window);
    let window = windows.find(readable).unwrap_or(window(LENGTHS[8]));
    Part { window, what }
}

/// What goes anyway, however much room there is.
fn heartbeats(moments: &[Moment], window: Window) -> usize {
    choose::choose(moments, window, usize::MAX).1
}

fn focus(moments: &[Moment]) -> (Micros, &'static str) {
    let violation = |moment: &&Moment| matches!(moment.what, What::Violation { .. });
    if let Some(moment) = moments.iter().find(violation) {
        return (moment.at, "what led to the broken promise");
    }
    let leads = |moment: &&Moment| {
        let leader = Role::Leader;
        matches!(moment.what, What::Role { role, .. } if role == leader)
    };
    let mut elected = moments.iter().filter(leads);
    match (elected.next(), elected.next()) {
        (_, Some(second)) => (second.at, "the first change of leaders"),
        (Some(first), None) => (first.at, "the election of the only leader"),
        (None, None) => (0, "the beginning"),
    }
}
