//! Makes a failing run smaller: fewer faults, then a shorter time, as long as it breaks the same promise. Delta debugging (Zeller and
//! Hildebrandt, 2002) over the places of the schedule. Knows no clock: the caller says when to stop.

use crate::faults::Planned;
use crate::run::{Options, Report, run, schedule};

/// How far a shrink has come, told after each run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Runs made.
    pub runs: u64,
    /// Faults of the smallest failing run found.
    pub faults: usize,
    /// Seconds after which it mends everything.
    pub seconds: u64,
    /// The last run failed as the first did, and is the smallest now.
    pub smaller: bool,
}

/// The smallest failing run found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// What to run.
    pub options: Options,
    /// What came of it.
    pub report: Report,
    /// Its faults.
    pub faults: Vec<Planned>,
    /// Runs made.
    pub runs: u64,
    /// Nothing smaller was left to try; otherwise the caller stopped it.
    pub finished: bool,
}

/// Makes the failing run of `options` smaller. `go_on` hears of each run and says whether another may be made. `None`: the run does not fail.
pub fn shrink(options: &Options, go_on: &mut dyn FnMut(Progress) -> bool) -> Option<Shrunk> {
    let report = run(options);
    let failure = report.violations.first()?;
    let mut search = Search {
        property: failure.property,
        best: options.clone(),
        report,
        runs: 1,
        go_on,
        stopped: false,
    };
    search.drop_what_came_later();
    search.drop_faults();
    search.heal_earlier();
    // A shorter run may need fewer faults.
    search.drop_faults();
    Some(Shrunk {
        faults: schedule(&search.best)
            .into_iter()
            .map(|(_, planned)| planned)
            .collect(),
        options: search.best,
        report: search.report,
        runs: search.runs,
        finished: !search.stopped,
    })
}

struct Search<'a> {
    /// The promise that must break.
    property: &'static str,
    best: Options,
    report: Report,
    runs: u64,
    go_on: &'a mut dyn FnMut(Progress) -> bool,
    stopped: bool,
}

impl Search<'_> {
    /// Runs a candidate, and takes it if it fails in the same way.
    fn try_out(&mut self, candidate: Options) -> bool {
        if self.stopped {
            return false;
        }
        let report = run(&candidate);
        self.runs += 1;
        let failure = report.violations.first();
        let smaller = failure.is_some_and(|failure| failure.property == self.property);
        if smaller {
            self.best = candidate;
            self.report = report;
        }
        let progress = Progress {
            runs: self.runs,
            faults: schedule(&self.best).len(),
            seconds: self.best.heal_at.unwrap_or(self.best.seconds),
            smaller,
        };
        self.stopped = !(self.go_on)(progress);
        smaller
    }

    fn places(&self) -> Vec<usize> {
        schedule(&self.best)
            .into_iter()
            .map(|(place, _)| place)
            .collect()
    }

    fn with_faults(&self, only: Vec<usize>) -> Options {
        Options {
            only_faults: Some(only),
            ..self.best.clone()
        }
    }

    /// Faults after the failure cannot have caused it.
    fn drop_what_came_later(&mut self) {
        let at = self.report.violations[0].at;
        let before: Vec<usize> = schedule(&self.best)
            .into_iter()
            .filter(|(_, planned)| planned.at <= at)
            .map(|(place, _)| place)
            .collect();
        if before.len() < self.places().len() {
            self.try_out(self.with_faults(before));
        }
    }

    /// Removes larger pieces of the schedule first, then smaller ones, down to single faults.
    fn drop_faults(&mut self) {
        let mut piece = self.places().len();
        while piece > 0 && !self.stopped {
            let mut from = 0;
            let mut any = false;
            while from < self.places().len() && !self.stopped {
                let mut rest = self.places();
                let end = (from + piece).min(rest.len());
                rest.drain(from..end);
                if self.try_out(self.with_faults(rest)) {
                    any = true;
                } else {
                    from = end;
                }
            }
            // Without one fault, another that seemed needed may go too.
            if !(any && piece == 1) {
                piece /= 2;
            }
        }
    }

    /// Mends everything earlier, by halves of what is left.
    fn heal_earlier(&mut self) {
        let mut too_early = 0;
        loop {
            let now = self.best.heal_at.unwrap_or(self.best.seconds);
            let earlier = too_early + (now - too_early) / 2;
            if earlier == too_early || self.stopped {
                return;
            }
            // The places stay as they are: whatever would come after the end is not among them.
            let candidate = Options {
                heal_at: Some(earlier),
                ..self.best.clone()
            };
            if !self.try_out(candidate) {
                too_early = earlier;
            }
        }
    }
}
