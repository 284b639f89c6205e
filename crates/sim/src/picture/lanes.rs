//! What each member was, and when: alive or not, in which role and term, cut off from whom. Read from the moments, drawn as bands.

use crate::clock::Micros;
use crate::faults::Fault;
use crate::timeline::{Moment, What};
use raft::Role;

/// What a member was for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// From this time on.
    pub from: Micros,
    /// Up to this time.
    pub to: Micros,
    /// What it was.
    pub state: State,
}

/// What a member can be, as a band shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its process is dead.
    Killed,
    /// Its machine is without power.
    Dark,
    /// It runs and gets no time.
    Paused,
    /// It runs.
    Runs {
        /// Its role.
        role: Role,
        /// Its term.
        term: u64,
    },
}

impl State {
    /// A process is there.
    pub fn alive(self) -> bool {
        matches!(self, State::Runs { .. } | State::Paused)
    }
}

/// Links that are cut for a while, each from one member to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From this time on.
    pub from: Micros,
    /// Up to this time.
    pub to: Micros,
    /// The links.
    pub links: Vec<(usize, usize)>,
}

/// The lanes of a run.
pub struct Lanes {
    /// For each member, spans in order of time without holes.
    pub members: Vec<Vec<Span>>,
    /// Cuts in order of time.
    pub cuts: Vec<Cut>,
}

impl Lanes {
    /// Reads the moments, in order, up to `end`.
    pub fn read(moments: &[Moment], members: usize, end: Micros) -> Lanes {
        let follower = State::Runs {
            role: Role::Follower,
            term: 0,
        };
        let mut reading = Reading {
            lanes: Lanes {
                members: vec![Vec::new(); members],
                cuts: Vec::new(),
            },
            now: vec![(0, State::Killed); members],
            role: vec![follower; members],
            cut: (0, Vec::new()),
        };
        for moment in moments {
            reading.take(moment);
        }
        for member in 0..members {
            let (from, state) = reading.now[member];
            let to = end;
            reading.lanes.members[member].push(Span { from, to, state });
        }
        reading.cut_links(end, Vec::new());
        reading.lanes
    }

    /// What a member was at a time.
    pub fn state(&self, member: usize, at: Micros) -> State {
        let spans = &self.members[member];
        let place = spans.partition_point(|span| span.to <= at);
        spans.get(place).map_or(State::Killed, |span| span.state)
    }

    /// The way from one member to another was cut at a time.
    pub fn is_cut(&self, from: usize, to: usize, at: Micros) -> bool {
        self.cuts
            .iter()
            .any(|cut| (cut.from..cut.to).contains(&at) && cut.links.contains(&(from, to)))
    }
}

struct Reading {
    lanes: Lanes,
    /// Since when each member is what it is.
    now: Vec<(Micros, State)>,
    /// The last role of each, to go back to after a pause.
    role: Vec<State>,
    cut: (Micros, Vec<(usize, usize)>),
}

impl Reading {
    fn take(&mut self, moment: &Moment) {
        let at = moment.at;
        match (&moment.what, moment.member) {
            (What::Starts { .. }, Some(member)) => {
                self.role[member] = State::Runs {
                    role: Role::Follower,
                    term: 0,
                };
                self.become_state(at, member, self.role[member]);
            }
            (What::Dies { power }, Some(member)) => {
                let state = if *power { State::Dark } else { State::Killed };
                self.become_state(at, member, state);
            }
            (What::Role { role, term, .. }, Some(member)) => {
                let role = *role;
                self.role[member] = State::Runs { role, term: *term };
                self.become_state(at, member, self.role[member]);
            }
            (What::Fault(Fault::Pause(member)), _) if self.now[*member].1.alive() => {
                self.become_state(at, *member, State::Paused);
            }
            (What::Fault(Fault::Resume(member)), _) => self.resume(at, *member),
            (What::Fault(Fault::Cut(links)), _) => {
                let mut all = self.cut.1.clone();
                all.extend(links);
                all.sort_unstable();
                all.dedup();
                self.cut_links(at, all);
            }
            (What::Fault(Fault::Mend(links)), _) => {
                let mut left = self.cut.1.clone();
                left.retain(|link| !links.contains(link));
                self.cut_links(at, left);
            }
            (What::Fault(Fault::Heal), _) => self.cut_links(at, Vec::new()),
            (What::Healed, _) => {
                self.cut_links(at, Vec::new());
                (0..self.now.len()).for_each(|member| self.resume(at, member));
            }
            _ => {}
        }
    }

    fn resume(&mut self, at: Micros, member: usize) {
        if self.now[member].1 == State::Paused {
            self.become_state(at, member, self.role[member]);
        }
    }

    fn become_state(&mut self, at: Micros, member: usize, state: State) {
        if self.now[member].1 == state {
            return;
        }
        let (from, before) = std::mem::replace(&mut self.now[member], (at, state));
        if from < at {
            self.lanes.members[member].push(Span {
                from,
                to: at,
                state: before,
            });
        }
    }

    fn cut_links(&mut self, at: Micros, links: Vec<(usize, usize)>) {
        let (from, links) = std::mem::replace(&mut self.cut, (at, links));
        if from < at && !links.is_empty() {
            let to = at;
            self.lanes.cuts.push(Cut { from, to, links });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at: Micros, member: usize, what: What) -> Moment {
        Moment {
            at,
            member: Some(member),
            what,
        }
    }

    #[test]
    fn a_member_goes_back_to_its_role_after_a_pause() {
        let leads = What::Role {
            role: Role::Leader,
            term: 2,
            leader: Some(0),
        };
        let moments = [
            moment(0, 0, What::Starts { last: 0 }),
            moment(10, 0, leads),
            moment(20, 0, What::Fault(Fault::Pause(0))),
            moment(30, 0, What::Fault(Fault::Resume(0))),
            moment(40, 0, What::Dies { power: true }),
        ];
        let lanes = Lanes::read(&moments, 1, 100);
        let leader = State::Runs {
            role: Role::Leader,
            term: 2,
        };
        let states: Vec<State> = [15, 25, 35, 45]
            .iter()
            .map(|at| lanes.state(0, *at))
            .collect();
        assert_eq!(states, [leader, State::Paused, leader, State::Dark]);
    }

    #[test]
    fn cuts_add_up_until_they_are_healed() {
        let moments = [
            moment(5, 0, What::Fault(Fault::Cut(vec![(0, 1)]))),
            moment(7, 0, What::Fault(Fault::Cut(vec![(1, 0)]))),
            moment(9, 0, What::Fault(Fault::Mend(vec![(0, 1)]))),
            moment(11, 0, What::Fault(Fault::Heal)),
        ];
        let lanes = Lanes::read(&moments, 2, 100);
        assert!(lanes.is_cut(0, 1, 6) && !lanes.is_cut(1, 0, 6));
        assert!(lanes.is_cut(0, 1, 8) && lanes.is_cut(1, 0, 8));
        assert!(!lanes.is_cut(0, 1, 9) && lanes.is_cut(1, 0, 9));
        assert!(!lanes.is_cut(1, 0, 11));
    }
}
