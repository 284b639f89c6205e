//! Which messages are drawn: heartbeats are thinned, and a picture has room for so many.

use crate::clock::Micros;
use crate::timeline::{Kind, Moment, What, Window};
use std::collections::BTreeMap;

/// A heartbeat is drawn only if nothing else went that way for so long.
const HEARTBEAT_EVERY: Micros = 1_000_000;

/// Messages and requests near a change of roles stay when others must go.
const NEAR: Micros = 40_000;

/// Chooses the moments to draw, by their places; and says how many messages were left out.
pub fn choose(moments: &[Moment], window: Window, arrows_max: usize) -> (Vec<usize>, usize) {
    let mut chosen = Vec::new();
    let mut left_out = 0;
    let mut last_seen: BTreeMap<(Option<usize>, usize), Micros> = BTreeMap::new();
    for (place, moment) in moments.iter().enumerate() {
        // A sync shows in what follows from it.
        if !window.contains(moment.at) || matches!(moment.what, What::Durable { .. }) {
            continue;
        }
        if let What::Sends { to, kind, .. } = &moment.what {
            let last = last_seen.entry((moment.member, *to)).or_insert(0);
            let idle = moment.at - (*last).min(moment.at);
            let quiet = *last == 0 || idle >= HEARTBEAT_EVERY;
            if *kind == Kind::HeartbeatReply || *kind == Kind::Heartbeat && !quiet {
                left_out += 1;
                continue;
            }
            *last = moment.at;
        }
        chosen.push(place);
    }
    let arrows = chosen
        .iter()
        .filter(|place| is_arrow(&moments[**place]))
        .count();
    if arrows > arrows_max {
        left_out += thin(moments, &mut chosen, arrows, arrows_max);
    }
    (chosen, left_out)
}

/// It is drawn as an arrow.
pub fn is_arrow(moment: &Moment) -> bool {
    matches!(
        moment.what,
        What::Sends { .. } | What::Asked { .. } | What::Answers { .. }
    )
}

/// Removes the arrows that say least until the rest has room; gives how many.
fn thin(moments: &[Moment], chosen: &mut Vec<usize>, arrows: usize, arrows_max: usize) -> usize {
    let changes: Vec<Micros> = moments
        .iter()
        .filter(|moment| {
            matches!(
                moment.what,
                What::Role { .. } | What::Dies { .. } | What::Violation { .. }
            )
        })
        .map(|moment| moment.at)
        .collect();
    let near = |at: Micros| {
        let next = changes.partition_point(|change| *change + NEAR < at);
        changes
            .get(next)
            .is_some_and(|change| change.abs_diff(at) <= NEAR)
    };
    let worth = |moment: &Moment| match &moment.what {
        What::Sends {
            kind: Kind::Election | Kind::Vote | Kind::Snapshot,
            ..
        } => 2,
        _ if near(moment.at) => 1,
        _ => 0,
    };
    // Of those that say least, every n-th stays.
    let mut room = arrows_max;
    let mut keep = BTreeMap::new();
    for level in [2, 1, 0] {
        let places: Vec<usize> = chosen
            .iter()
            .copied()
            .filter(|place| is_arrow(&moments[*place]) && worth(&moments[*place]) == level)
            .collect();
        let every = places.len().div_ceil(room.max(1)).max(1);
        for place in places.into_iter().step_by(every).take(room) {
            keep.insert(place, ());
        }
        room = arrows_max.saturating_sub(keep.len());
    }
    chosen.retain(|place| !is_arrow(&moments[*place]) || keep.contains_key(place));
    arrows - keep.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(at: Micros, kind: Kind) -> Moment {
        let what = What::Sends {
            to: 1,
            arrivals: [Some(at + 100), None],
            kind,
            label: String::new(),
            text: String::new(),
        };
        Moment {
            at,
            member: Some(0),
            what,
        }
    }

    #[test]
    fn heartbeats_are_drawn_only_where_nothing_else_is() {
        let mut moments: Vec<Moment> = (1..=20)
            .map(|n| message(n * 100_000, Kind::Heartbeat))
            .collect();
        let (chosen, left_out) = choose(&moments, Window::ALL, 100);
        assert_eq!((chosen.len(), left_out), (2, 18));
        moments[7] = message(800_000, Kind::Append);
        let (chosen, _) = choose(&moments, Window::ALL, 100);
        assert!(chosen.contains(&7));
    }

    #[test]
    fn elections_stay_when_there_is_no_room_for_all() {
        let mut moments: Vec<Moment> = (0..1_000)
            .map(|n| message(n * 1_000, Kind::Append))
            .collect();
        moments[500] = message(500_000, Kind::Election);
        let (chosen, left_out) = choose(&moments, Window::ALL, 50);
        assert!(
            chosen.len() <= 50 && chosen.len() + left_out == 1_000,
            "{} and {left_out}",
            chosen.len()
        );
        assert!(chosen.contains(&500));
    }
}
