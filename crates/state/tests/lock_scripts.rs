//! Golden scripts of locks: what every command answers, and whom it wakes. `UPDATE_GOLDEN=1 cargo test -p synod-state --test lock_scripts`
//! rewrites the answers.
//!
//! A script's first line says its goal, and names the rules of PROPERTIES.md it shows. A line that begins with `> ` is a request; the lines up
//! to the next one are its answer. Acquisitions are written `session/id`.

mod golden;
mod support;

use bytes::Bytes;
use std::fmt::Write;
use synod_state::lock::*;
use synod_state::*;

/// The words of a request.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn word(&self, at: usize) -> &'a str {
        self.0
            .get(at)
            .unwrap_or_else(|| panic!("a word is missing: {:?}", self.0))
    }

    fn bytes(&self, at: usize) -> Bytes {
        Bytes::copy_from_slice(self.word(at).as_bytes())
    }

    fn number(&self, at: usize) -> u64 {
        self.word(at).parse().expect("a number")
    }

    fn claimant(&self, at: usize) -> Claimant {
        let (session, id) = self.word(at).split_once('/').expect("session/id");
        Claimant {
            session: session.parse().expect("a session"),
            id: id.parse().expect("an id"),
        }
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        let mut words = self.0.iter();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    fn option_number(&self, name: &str) -> u64 {
        self.option(name)
            .map_or(0, |number| number.parse().expect("a number"))
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    fn wait_ms(&self) -> u64 {
        match self.option("wait") {
            _ if self.has("try") => 0,
            Some(wait_ms) => wait_ms.parse().expect("a number"),
            None => u64::MAX,
        }
    }
}

/// `lock name 1/1 [shared|member|pass|permits=2/5|enter=3] [try|wait=500] [owner=1] [priority=1] [delay=1000] [value=text]`
fn acquire(words: &Words<'_>) -> LockOperation {
    let pair = words.option("permits").map(|pair| {
        let (permits, limit) = pair.split_once('/').expect("permits/limit");
        (permits.parse().unwrap(), limit.parse().unwrap())
    });
    let enter = words
        .option("enter")
        .map(|parties| parties.parse().unwrap());
    let (mode, (permits, limit)) = match (pair, enter) {
        (Some(pair), _) => (Mode::Permits, pair),
        (None, Some(parties)) => (Mode::Enter, (0, parties)),
        _ if words.has("shared") => (Mode::Shared, (0, 0)),
        _ if words.has("member") => (Mode::Member, (0, 0)),
        _ if words.has("pass") => (Mode::Pass, (0, 0)),
        _ => (Mode::Exclusive, (0, 0)),
    };
    LockOperation::Acquire(Acquire {
        name: words.bytes(1),
        claimant: words.claimant(2),
        owner: words.option_number("owner"),
        mode: mode as i32,
        permits,
        limit,
        priority: words
            .option("priority")
            .map_or(0, |priority| priority.parse().unwrap()),
        wait_ms: words.wait_ms(),
        delay_ms: words.option_number("delay"),
        value: Bytes::copy_from_slice(words.option("value").unwrap_or_default().as_bytes()),
    })
}

fn lock_operation(words: &Words<'_>) -> Option<LockOperation> {
    Some(match words.word(0) {
        "lock" => acquire(words),
        "release" => LockOperation::Release(Release {
            claimant: words.claimant(1),
            joined: words.option_number("joined"),
        }),
        "value" => LockOperation::SetValue(SetValue {
            claimant: words.claimant(1),
            value: words.bytes(2),
        }),
        "force" => LockOperation::Force(Force {
            name: words.bytes(1),
            token: words.number(2),
            reason: words.word(3).into(),
        }),
        "latch" => LockOperation::SetLatch(SetLatch {
            name: words.bytes(1),
            count: words.number(2),
        }),
        "down" => LockOperation::CountDown(CountDown {
            name: words.bytes(1),
            by: words.number(2),
        }),
        "leave" => LockOperation::Leave(Leave {
            claimant: words.claimant(1),
            wait_ms: words.wait_ms(),
        }),
        _ => return None,
    })
}

fn operation(words: &Words<'_>) -> Option<Operation> {
    if let Some(operation) = lock_operation(words) {
        return Some(Operation::Lock(LockCommand {
            operation: Some(operation),
        }));
    }
    Some(match words.word(0) {
        "session" => Operation::LeaseGrant(LeaseGrant {
            id: words.number(1) as i64,
            ttl_ms: words.number(2),
        }),
        "revoke" => Operation::LeaseRevoke(LeaseRevoke {
            id: words.number(1) as i64,
        }),
        "put" => Operation::Put(Put {
            key: words.bytes(1),
            value: words.bytes(2),
            ..Put::default()
        }),
        _ => return None,
    })
}

fn at(claimant: Claimant) -> String {
    format!("{}/{}", claimant.session, claimant.id)
}

fn reply_text(reply: &Reply) -> String {
    match reply {
        Reply::Lock(reply) => match reply {
            LockReply::Granted { token } => format!("granted, token {token}"),
            LockReply::Passed => "passed".into(),
            LockReply::Waiting { joined, .. } => format!("waits, joined {joined}"),
            LockReply::Busy => "busy".into(),
            LockReply::Released { token: 0, .. } => "gave up waiting".into(),
            LockReply::Released { token, held: false } => format!("released token {token}"),
            LockReply::Released { token, held: true } => {
                format!("released, but token {token} holds on")
            }
            LockReply::Latch { count } => format!("latch has {count} left"),
            LockReply::ValueSet => "value set".into(),
        },
        Reply::Rejected(Rejection::Lock(rejection)) => format!("refused: {rejection}"),
        Reply::Rejected(Rejection::Guard(rejection)) => format!("refused: {rejection}"),
        other => format!("{other:?}"),
    }
}

fn outcome_text(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Granted { token } => format!("granted, token {token}"),
        Outcome::Forced { reason } => format!("taken away: {reason}"),
        other => format!("{other:?}"),
    }
}

fn claim_text(claim: &ClaimView) -> String {
    let mut text = format!("{} {:?}", at(claim.claimant), claim.mode);
    if claim.permits > 0 {
        write!(text, " {} permits", claim.permits).unwrap();
    }
    match (claim.token, claim.waits_for) {
        (0, Some(obstacle)) => write!(text, " waits for {obstacle:?}").unwrap(),
        (token, Some(obstacle)) => {
            write!(text, " token {token} leaves, waits for {obstacle:?}").unwrap()
        }
        (token, None) => write!(text, " holds, token {token}").unwrap(),
    }
    if !claim.value.is_empty() {
        write!(text, " value {}", claim.value.escape_ascii()).unwrap();
    }
    text
}

fn lock_text(lock: &LockView) -> String {
    format!(
        "{} {} limit {}, holders {}, waiters {}, used {}, newest {}, closed for {} ms",
        lock.name.escape_ascii(),
        lock.kind,
        lock.limit,
        lock.holders,
        lock.waiters,
        lock.used,
        lock.newest,
        lock.closed_ms
    )
}

fn answer_lines(answer: LockAnswer) -> Vec<String> {
    match answer {
        LockAnswer::List { locks, more } => {
            let mut lines: Vec<String> = locks.iter().map(lock_text).collect();
            lines.push(if more { "more" } else { "all" }.into());
            lines
        }
        LockAnswer::Show(None) | LockAnswer::Claim(None) => vec!["none".into()],
        LockAnswer::Show(Some(detail)) => {
            let mut lines = vec![lock_text(&detail.lock)];
            lines.extend(
                detail
                    .claims
                    .iter()
                    .map(|claim| format!("  {}", claim_text(claim))),
            );
            lines
        }
        LockAnswer::Claim(Some(claim)) => vec![claim_text(&claim)],
        LockAnswer::Check { held, newest } => vec![format!("held {held}, newest {newest}")],
    }
}

struct Script {
    state: State,
    clock_ms: u64,
}

impl Script {
    fn batch(&mut self, renewals: Vec<i64>, command: Option<Command>) -> Applied {
        let commands = command.into_iter().collect();
        golden::apply(&mut self.state, (self.clock_ms, 0), renewals, commands)
    }

    fn command(&mut self, words: &Words<'_>, operation: Operation) -> Vec<String> {
        let guards = words.option("guard").map(|guard| {
            let (name, token) = guard.split_once(':').expect("name:token");
            Guard {
                model: words
                    .option("model")
                    .map_or(GUARD_MODEL, |model| model.parse().unwrap()),
                name: Bytes::copy_from_slice(name.as_bytes()),
                token: token.parse().unwrap(),
            }
        });
        let applied = self.batch(
            Vec::new(),
            Some(Command {
                guards: guards.into_iter().collect(),
                operation: Some(operation),
                ..Command::default()
            }),
        );
        let mut lines = vec![reply_text(&applied.groups[0].replies[0].0)];
        lines.extend(woken_lines(&applied, words.0.get(2).copied()));
        lines
    }

    fn ask(&mut self, query: LockQuery) -> Vec<String> {
        let mut cursor = self.state.query_begin(Query::Lock(query));
        match self.state.query_step(&mut cursor, Budget(1)) {
            Some((Answer::Lock(answer), _)) => answer_lines(answer),
            other => panic!("{other:?} is no answer about locks"),
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let words = Words(line.split_whitespace().collect());
        if let Some(operation) = operation(&words) {
            return self.command(&words, operation);
        }
        let page = if words.has("page") { 2 } else { PAGE_MAX };
        match words.word(0) {
            "renew" => vec![format!(
                "{:?}",
                self.batch(vec![words.number(1) as i64], None).groups[0].renewals
            )],
            "clock" => {
                self.clock_ms = words.number(1);
                let applied = self.batch(Vec::new(), None);
                let mut lines = vec![format!(
                    "expired {:?}, next at {:?}",
                    applied.expired,
                    self.state.next_deadline_ms()
                )];
                lines.extend(woken_lines(&applied, None));
                lines
            }
            "show" => self.ask(LockQuery::Show {
                name: words.bytes(1),
                skip: words.option_number("skip") as usize,
                limit: page,
            }),
            "claim" => self.ask(LockQuery::Claim {
                claimant: words.claimant(1),
            }),
            "locks" => self.ask(LockQuery::List {
                from: words
                    .option("from")
                    .map_or(Bytes::new(), |from| Bytes::copy_from_slice(from.as_bytes())),
                limit: page,
            }),
            "check" => self.ask(LockQuery::Check {
                name: words.bytes(1),
                token: words.number(2),
            }),
            "bytes" => vec![format!("{} bytes", self.state.bytes())],
            "reload" => {
                let hash = self.state.hash();
                self.state = support::reload(&mut self.state, &Settings::default());
                assert_eq!(self.state.hash(), hash, "hash after loading");
                vec!["reloaded".into()]
            }
            other => panic!("{other} is no request"),
        }
    }
}

/// All that were woken, but for the one that the reply speaks of.
fn woken_lines(applied: &Applied, own: Option<&str>) -> Vec<String> {
    let woken = applied.woken.iter();
    let others = woken.filter(|woken| Some(&at(woken.claimant)[..]) != own);
    others
        .map(|woken| {
            format!(
                "  woke {}: {}",
                at(woken.claimant),
                outcome_text(&woken.outcome)
            )
        })
        .collect()
}

#[test]
fn locks_answer_as_written() {
    let player = |_: &str| Script {
        state: State::new(Settings::default()),
        clock_ms: 0,
    };
    golden::check_scripts("lock_scripts", 10, player, Script::run);
}
