//! Time as height: busy moments get room, idle ones shrink, so that a message and a minute both fit into one picture.

use crate::clock::Micros;
use std::collections::BTreeMap;

/// Height of what two moments have between them, at most.
const GAP_MAX: f64 = 64.0;

/// Height of an idle second and more, marked as such.
pub const IDLE: Micros = 400_000;

/// Heights of times, growing downwards.
pub struct Axis {
    /// Each anchored time and its height, ascending in both.
    marks: Vec<(Micros, f64)>,
}

/// The times that need a place, each with the height of the text that begins there.
#[derive(Clone, Default)]
pub struct Anchors {
    texts: BTreeMap<Micros, f64>,
    rows: bool,
}

impl Anchors {
    /// With rows of their own for texts: nothing happens beside them.
    pub fn with_rows(rows: bool) -> Anchors {
        Anchors {
            rows,
            ..Anchors::default()
        }
    }

    /// This time needs a place.
    pub fn add(&mut self, at: Micros) {
        self.texts.entry(at).or_insert(0.0);
    }

    /// A text of this height begins at this time.
    pub fn add_text(&mut self, at: Micros, height: f64) {
        *self.texts.entry(at).or_insert(0.0) += height;
    }

    /// Height of all texts.
    pub fn texts(&self) -> f64 {
        self.texts.values().sum()
    }

    /// Heights between the times.
    pub fn gaps(&self, gap: impl Fn(Micros) -> f64) -> impl Iterator<Item = f64> {
        let later = self.texts.keys().skip(1);
        later
            .zip(self.texts.keys())
            .map(move |(at, before)| gap(at - before))
    }

    /// Gives every time its height, from `top` on, with these gaps for idle times. No text runs into the next.
    pub fn axis(self, top: f64, gap: impl Fn(Micros) -> f64) -> Axis {
        let mut marks: Vec<(Micros, f64)> = Vec::with_capacity(self.texts.len());
        let (mut y, mut text_end) = (top, 0.0_f64);
        for (at, text) in self.texts {
            if let Some((before, _)) = marks.last() {
                y += gap(at - before);
            }
            if text > 0.0 || self.rows {
                y = y.max(text_end);
                text_end = y + text;
            }
            marks.push((at, y));
        }
        Axis { marks }
    }
}

/// Height of an idle time where milliseconds matter: about its logarithm.
pub fn logarithm(idle: Micros) -> f64 {
    (8.0 * (1.0 + idle as f64 / 400.0).log2()).min(GAP_MAX)
}

impl Axis {
    /// The height of a time; between anchors as far as it has come.
    pub fn y(&self, at: Micros) -> f64 {
        let place = self.marks.partition_point(|(mark, _)| *mark <= at);
        match (
            place.checked_sub(1).map(|place| self.marks[place]),
            self.marks.get(place),
        ) {
            (Some((before, above)), Some((after, below))) => {
                let part = (at - before) as f64 / (after - before) as f64;
                above + (below - above) * part
            }
            (Some((_, above)), None) => above,
            (None, Some((_, below))) => *below,
            (None, None) => 0.0,
        }
    }

    /// The lowest height.
    pub fn bottom(&self) -> f64 {
        self.marks.last().map_or(0.0, |(_, y)| *y)
    }

    /// The anchored times and their heights.
    pub fn marks(&self) -> &[(Micros, f64)] {
        &self.marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_order_and_texts_do_not_overlap() {
        let mut anchors = Anchors::default();
        for at in [0, 10, 2_000, 60_000_000] {
            anchors.add(at);
        }
        anchors.add_text(10, 40.0);
        anchors.add_text(2_000, 20.0);
        let mut rows = anchors.clone();
        let axis = anchors.axis(5.0, logarithm);
        let heights: Vec<f64> = axis.marks().iter().map(|(_, y)| *y).collect();
        assert!(
            heights.windows(2).all(|pair| pair[0] < pair[1]),
            "{heights:?}"
        );
        assert!(axis.y(2_000) - axis.y(10) >= 40.0);
        assert!(
            axis.y(60_000_000) - axis.y(2_000) <= GAP_MAX,
            "an idle minute is short"
        );
        assert!(axis.y(30_000_000) > axis.y(2_000));
        assert_eq!(axis.bottom(), axis.y(60_000_000));
        rows.rows = true;
        rows.add(11);
        let axis = rows.axis(5.0, logarithm);
        assert!(axis.y(11) - axis.y(10) >= 40.0, "a row of its own");
    }
}
