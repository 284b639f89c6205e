//! Random commands about locks against a naive model (PROPERTIES F1-F8). One state works in tiny slices, and is now and then replaced by what a
//! snapshot of it holds; the other works in one go: both must agree with the model and with each other.

#[path = "support/lock_model.rs"]
mod lock_model;
mod support;

use bytes::Bytes;
use lock_model::{End, Locks, Said};
use prost::Message;
use std::collections::BTreeMap;
use support::{Rng, reload};
use synod_state::lock::*;
use synod_state::*;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

struct Harness {
    seed: u64,
    rng: Rng,
    model: Locks,
    whole: State,
    sliced: State,
    index: u64,
    /// Tokens of those that hold, as they were told.
    tokens: BTreeMap<Claimant, u64>,
    newest: u64,
    renewed_at: u64,
    seen: BTreeMap<&'static str, u64>,
}

fn said(reply: &Reply) -> Said {
    match reply {
        Reply::Lock(reply) => match reply {
            LockReply::Granted { .. } => Said::Granted,
            LockReply::Passed => Said::Passed,
            LockReply::Waiting { .. } => Said::Waiting,
            LockReply::Busy => Said::Busy,
            LockReply::Released { .. } => Said::Released,
            LockReply::Latch { count } => Said::Count(*count),
            LockReply::ValueSet => panic!("no text was set"),
        },
        Reply::Rejected(Rejection::Lock(_)) => Said::Refused,
        other => panic!("{other:?} is no answer about locks"),
    }
}

fn end(outcome: &Outcome) -> End {
    match outcome {
        Outcome::Granted { .. } => End::Granted,
        Outcome::Passed => End::Passed,
        Outcome::TimedOut => End::TimedOut,
        Outcome::Cancelled => End::Cancelled,
        Outcome::SessionEnded => End::SessionEnded,
        Outcome::Forced { .. } => End::Forced,
    }
}

impl Harness {
    fn new(seed: u64) -> Harness {
        Harness {
            seed,
            rng: Rng(seed),
            model: Locks::default(),
            whole: State::new(Settings::default()),
            sliced: State::new(Settings::default()),
            index: 0,
            tokens: BTreeMap::new(),
            newest: 0,
            renewed_at: 0,
            seen: BTreeMap::new(),
        }
    }

    fn claimant(&mut self) -> Claimant {
        Claimant {
            session: 1 + self.rng.below(4) as i64,
            id: 1 + self.rng.below(5),
        }
    }

    fn name(&mut self) -> &'static str {
        NAMES[self.rng.below(4) as usize]
    }

    fn wait_ms(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => 0,
            1 => 1 + self.rng.below(1500),
            _ => u64::MAX,
        }
    }

    fn acquire(&mut self) -> LockOperation {
        let name = self.name();
        // Each name has a favourite use, so that there is something to wait for.
        let mode = match (name, self.rng.below(12)) {
            (_, 0) => Mode::Member,
            (_, 1) => Mode::Pass,
            ("b", _) => Mode::Permits,
            ("c", _) => Mode::Enter,
            (_, 2..7) => Mode::Shared,
            _ => Mode::Exclusive,
        };
        let locks = matches!(mode, Mode::Exclusive | Mode::Shared);
        let (permits, limit) = match mode {
            Mode::Permits => (1 + self.rng.below(3), 3 + u64::from(self.rng.chance(3))),
            Mode::Enter => (0, 2 + u64::from(self.rng.chance(10))),
            _ => (0, 0),
        };
        LockOperation::Acquire(Acquire {
            name: Bytes::from_static(name.as_bytes()),
            claimant: self.claimant(),
            owner: if locks { self.rng.below(3) } else { 0 },
            mode: mode as i32,
            permits,
            limit,
            priority: if self.rng.chance(20) { 1 } else { 0 },
            wait_ms: self.wait_ms(),
            delay_ms: if locks && self.rng.chance(30) {
                self.rng.below(2000)
            } else {
                0
            },
            value: Bytes::new(),
        })
    }

    fn operation(&mut self) -> LockOperation {
        let name = Bytes::from_static(self.name().as_bytes());
        match self.rng.below(20) {
            0..11 => self.acquire(),
            11..15 => LockOperation::Release(Release {
                claimant: self.claimant(),
                joined: 0,
            }),
            15 => LockOperation::SetLatch(SetLatch {
                name,
                count: self.rng.below(4),
            }),
            16..18 => LockOperation::CountDown(CountDown {
                name,
                by: 1 + self.rng.below(2),
            }),
            _ => LockOperation::Leave(Leave {
                claimant: self.claimant(),
                wait_ms: self.wait_ms(),
            }),
        }
    }

    /// Applies a batch to both states.
    fn batch(&mut self, renewals: Vec<i64>, command: Option<Command>) -> Applied {
        self.index += 1;
        let batch = Batch {
            format: 1,
            clock_ms: self.model.clock_ms,
            wall_ms: 0,
            groups: vec![Group {
                renewals,
                commands: command.into_iter().collect(),
                ..Group::default()
            }],
        }
        .encode_to_vec();
        self.whole.apply_begin(self.index, &batch).unwrap();
        let applied = self.whole.apply_step(Budget(u64::MAX)).unwrap();
        self.sliced.apply_begin(self.index, &batch).unwrap();
        let sliced = loop {
            let budget = Budget(self.rng.below(3));
            if let Some(applied) = self.sliced.apply_step(budget) {
                break applied;
            }
        };
        assert_eq!(applied, sliced, "in slices");
        assert_eq!(self.whole.hash(), self.sliced.hash(), "hash");
        if self.rng.chance(5) {
            self.sliced = reload(&mut self.sliced, &Settings::default());
        }
        applied
    }

    /// Tokens only rise (F2), and whoever is told something is told what the model says.
    fn check_woken(&mut self, applied: &Applied) {
        for Woken { claimant, outcome } in &applied.woken {
            if let Outcome::Granted { token } = outcome {
                assert!(*token > self.newest, "token {token} after {}", self.newest);
                self.newest = *token;
                self.tokens.insert(*claimant, *token);
                *self.seen.entry("granted").or_default() += 1;
            }
        }
        let mut woken: Vec<(Claimant, End)> = applied
            .woken
            .iter()
            .map(|woken| (woken.claimant, end(&woken.outcome)))
            .collect();
        let mut ends = std::mem::take(&mut self.model.ends);
        woken.sort();
        ends.sort();
        assert_eq!(
            woken, ends,
            "who was woken at {} of seed {}",
            self.index, self.seed
        );
    }

    fn command(&mut self, operation: Operation) -> Reply {
        let applied = self.batch(
            Vec::new(),
            Some(Command {
                operation: Some(operation),
                ..Command::default()
            }),
        );
        self.check_woken(&applied);
        applied.groups[0].replies[0].0.clone()
    }

    fn lock(&mut self, operation: LockOperation) {
        let expected = self.model.apply(&operation);
        let label = match expected {
            Said::Waiting => "waiting",
            Said::Refused => "refused",
            Said::Busy => "busy",
            _ => "other",
        };
        *self.seen.entry(label).or_default() += 1;
        let reply = self.command(Operation::Lock(LockCommand {
            operation: Some(operation.clone()),
        }));
        assert_eq!(said(&reply), expected, "{operation:?} answers {reply:?}");
        if let (LockOperation::Acquire(acquire), Reply::Lock(LockReply::Granted { token })) =
            (&operation, &reply)
        {
            // Who re-enters has the token of the grant; everybody else was told.
            let known = *self.tokens.entry(acquire.claimant).or_insert(*token);
            if acquire.owner == 0 {
                assert_eq!(known, *token);
            }
            self.tokens.insert(acquire.claimant, *token);
        }
    }

    fn force(&mut self) {
        let holders: Vec<_> = NAMES
            .iter()
            .flat_map(|name| self.model.holders(name))
            .collect();
        if holders.is_empty() {
            return;
        }
        let holder = &holders[self.rng.below(holders.len() as u64) as usize];
        let expected = self.model.force(&holder.name, holder.claimant);
        let force = LockOperation::Force(Force {
            name: Bytes::copy_from_slice(holder.name.as_bytes()),
            token: self.tokens[&holder.claimant],
            reason: "a test".into(),
        });
        let reply = self.command(Operation::Lock(LockCommand {
            operation: Some(force),
        }));
        assert_eq!(said(&reply), expected);
    }

    /// A guarded write is applied exactly if the model says that the grant holds (F3).
    fn guarded(&mut self) {
        let (mut name, mut claimant) = (self.name(), self.claimant());
        let holding = self.model.claims.iter().find(|claim| claim.grant.is_some());
        if let Some(holder) = holding.filter(|_| self.rng.chance(50)) {
            claimant = holder.claimant;
            name = NAMES
                .iter()
                .find(|name| **name == holder.name)
                .expect("a known name");
        }
        let Some(&token) = self.tokens.get(&claimant) else {
            return;
        };
        let holds = self.model.holders(name).into_iter().any(|holder| {
            self.tokens[&holder.claimant] == token && self.model.is_alive(holder.claimant.session)
        });
        let applied = self.batch(
            Vec::new(),
            Some(Command {
                guards: vec![Guard {
                    model: GUARD_MODEL,
                    name: Bytes::from_static(name.as_bytes()),
                    token,
                }],
                operation: Some(Operation::Put(Put {
                    key: Bytes::from_static(b"k"),
                    ..Put::default()
                })),
                ..Command::default()
            }),
        );
        let reply = &applied.groups[0].replies[0].0;
        match reply {
            Reply::Put { .. } => assert!(holds, "a stale guard {name}:{token} was accepted"),
            Reply::Rejected(Rejection::Guard(_)) => {
                assert!(!holds, "a guard {name}:{token} was refused: {reply:?}")
            }
            other => panic!("{other:?} answers a guarded write"),
        }
        *self
            .seen
            .entry(if holds { "guarded" } else { "stale" })
            .or_default() += 1;
    }

    /// Time passes; sessions are renewed, or not.
    fn tick(&mut self) {
        self.model.clock_ms += self.rng.below(600);
        let renewals: Vec<i64> = (1..=4).filter(|_| self.rng.chance(90)).collect();
        for &id in &renewals {
            // One whose time was over before is not renewed.
            if let Some(deadline_ms) = self.model.sessions.get_mut(&id)
                && *deadline_ms > self.renewed_at
            {
                *deadline_ms = self.model.clock_ms + 1020;
            }
        }
        let expired = self.model.expire();
        let applied = self.batch(renewals, None);
        assert_eq!(applied.expired, expired);
        self.check_woken(&applied);
        self.renewed_at = self.model.clock_ms;
    }

    fn session(&mut self) {
        let id = 1 + self.rng.below(4) as i64;
        if self.model.sessions.contains_key(&id) {
            if self.rng.chance(20) {
                self.model.end_session(id, false);
                let reply = self.command(Operation::LeaseRevoke(LeaseRevoke { id }));
                assert_eq!(reply, Reply::LeaseRevoke);
            }
            return;
        }
        self.model.sessions.insert(id, self.model.clock_ms + 1020);
        let ttl_ms = 1000;
        let reply = self.command(Operation::LeaseGrant(LeaseGrant { id, ttl_ms }));
        assert_eq!(reply, Reply::LeaseGrant { id, ttl_ms });
    }

    /// Holders and waiters are those of the model, in its order; F1 holds.
    fn check(&mut self) {
        for name in NAMES {
            let query = LockQuery::Show {
                name: Bytes::from_static(name.as_bytes()),
                skip: 0,
                limit: PAGE_MAX,
            };
            let mut cursor = self.sliced.query_begin(Query::Lock(query));
            let Some((Answer::Lock(LockAnswer::Show(detail)), _)) =
                self.sliced.query_step(&mut cursor, Budget(1))
            else {
                panic!("a question about {name} is answered at once");
            };
            let claims = detail.map_or(Vec::new(), |detail| detail.claims);
            let (holders, waiters): (Vec<_>, Vec<_>) =
                claims.into_iter().partition(|claim| claim.token != 0);
            let mut of_model: Vec<(Claimant, u64)> = self
                .model
                .holders(name)
                .iter()
                .map(|holder| (holder.claimant, self.tokens[&holder.claimant]))
                .collect();
            of_model.sort();
            let mut of_state: Vec<(Claimant, u64)> = holders
                .iter()
                .map(|holder| (holder.claimant, holder.token))
                .collect();
            of_state.sort();
            assert_eq!(of_state, of_model, "holders of {name} at {}", self.index);
            let alone = holders.iter().any(|holder| holder.mode == Mode::Exclusive);
            let one_grant = holders
                .iter()
                .all(|holder| holder.token == holders[0].token);
            assert!(
                !alone || one_grant,
                "an exclusive holder of {name} is not alone"
            );
            let of_model: Vec<Claimant> = self
                .model
                .waiters(name)
                .iter()
                .map(|waiter| waiter.claimant)
                .collect();
            let of_state: Vec<Claimant> = waiters.iter().map(|waiter| waiter.claimant).collect();
            assert_eq!(of_state, of_model, "waiters for {name} at {}", self.index);
            assert!(
                waiters.iter().all(|waiter| waiter.waits_for.is_some()),
                "a waiter for {name} waits for nothing"
            );
        }
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..60 => {
                let operation = self.operation();
                self.lock(operation);
            }
            60..75 => self.tick(),
            75..85 => self.session(),
            85..88 => self.force(),
            _ => self.guarded(),
        }
        self.check();
    }
}

#[test]
fn locks_agree_with_the_model() {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..60 {
        let mut harness = Harness::new(seed);
        for _ in 0..400 {
            harness.step();
        }
        for (what, count) in harness.seen {
            *seen.entry(what).or_default() += count;
        }
    }
    for what in ["granted", "waiting", "busy", "refused", "guarded", "stale"] {
        assert!(
            seen.get(what).is_some_and(|&count| count > 200),
            "{what} was seldom seen: {seen:?}"
        );
    }
}
