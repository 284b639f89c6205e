//! Golden scripts of the native API: each call in its JSON form, what it answers and by what word it is refused, and whom it wakes.
//! `UPDATE_GOLDEN=1 cargo test -p synod-native --test scripts` rewrites the answers.
//!
//! A script's first line says its goal. A line that begins with `> ` is a call, `service/call {message}`, or one of these: `clock MS` lets time pass,
//! `renew SESSION` renews, `metadata TEXT` reads guards as they come in headers. The lines up to the next one are its answer, without the header. Who has to wait gets its answer behind the call that
//! ends the wait.

#[path = "../../state/tests/golden/mod.rs"]
mod golden;

use bytes::Bytes;
use etcd::Status;
use prost::{Message, Name};
use proto::synod::v1;
use serde::Serialize;
use state::auth::SIGNING_SEED_BYTES;
use state::lock::{
    Claimant, LockAnswer, LockDetail, LockOperation, LockQuery, LockReply, PAGE_MAX,
};
use state::*;
use std::collections::BTreeMap;
use synod_native::{Ask, Change, Headed, Header, ObservedGroup, SigningKeys, Txn};

/// What the members choose where a caller leaves an id to them.
const CHOSEN: u64 = 9;

type Answering = Box<dyn FnOnce(Header, Reply) -> String>;

struct Script {
    state: State,
    clock_ms: u64,
    waiting: BTreeMap<Claimant, Answering>,
    /// What followers of groups were told.
    groups: BTreeMap<String, ObservedGroup>,
    /// Seeds that were drawn.
    seeds: u8,
}

fn refused(status: &Status) -> String {
    let Status { code, text, advice } = status;
    match advice {
        None => format!("refused: {code:?}: {text}"),
        Some(advice) => {
            let (reason, class) = (advice.reason, advice.class.word());
            format!("refused: {code:?} {reason} ({class}): {text}")
        }
    }
}

/// The message as JSON, in one line, without its header.
fn message(answer: Result<impl Serialize, Status>) -> String {
    let answer = match answer {
        Ok(answer) => serde_json::to_value(answer).expect("messages have a JSON form"),
        Err(status) => return refused(&status),
    };
    let mut answer = answer;
    let header = answer
        .as_object_mut()
        .and_then(|fields| fields.remove("header"));
    let dropped = header.is_some_and(|header| header["answer_dropped"] == true);
    if dropped {
        return "its answer was dropped".into();
    }
    answer.to_string()
}

fn read<Q: Message + Name + Default>(text: &str) -> Q {
    let read = etcd::json::read(text.as_bytes());
    let read = read.unwrap_or_else(|error| panic!("{text}: {error}"));
    read.map_or_else(Q::default, |(message, _)| message)
}

/// Whose wait a command may begin.
fn claimant(command: &Command) -> Option<Claimant> {
    let Some(Operation::Lock(command)) = &command.operation else {
        return None;
    };
    match command.operation.as_ref()? {
        LockOperation::Acquire(acquire) => Some(acquire.claimant),
        LockOperation::Leave(leave) => Some(leave.claimant),
        _ => None,
    }
}

impl Script {
    fn batch(&mut self, renewals: Vec<i64>, command: Option<Command>) -> Applied {
        let commands = command.into_iter().collect();
        golden::apply(
            &mut self.state,
            (self.clock_ms, self.clock_ms),
            renewals,
            commands,
        )
    }

    /// Answers of waits that ended.
    fn woken(&mut self, applied: Applied) -> Vec<String> {
        let mut lines = Vec::new();
        for woken in applied.woken {
            let Claimant { session, id } = woken.claimant;
            if let Some(answer) = self.waiting.remove(&woken.claimant) {
                let answer = answer(Header::default(), Reply::from(woken.outcome));
                lines.push(format!("  {session}/{id}: {answer}"));
            }
        }
        lines
    }

    fn propose<R: Headed + Serialize + 'static>(
        &mut self,
        change: Result<Change<R>, Status>,
    ) -> Vec<String> {
        let change = match change {
            Ok(change) => change,
            Err(status) => return vec![refused(&status)],
        };
        let claimant = claimant(&change.command);
        let (command, answer) = change.split();
        let answer: Answering = Box::new(|header, reply| message(answer(header, reply)));
        let mut applied = self.batch(Vec::new(), Some(command));
        let reply = applied.groups[0].replies.remove(0).0;
        let mut lines = match (reply, claimant) {
            (Reply::Lock(LockReply::Waiting { .. }), Some(claimant)) => {
                self.waiting.insert(claimant, answer);
                vec!["waits".into()]
            }
            (reply, _) => vec![answer(Header::default(), reply)],
        };
        lines.extend(self.woken(applied));
        lines
    }

    fn ask<R: Headed + Serialize>(&mut self, ask: Result<Ask<R>, Status>) -> Vec<String> {
        let ask = match ask {
            Ok(ask) => ask,
            Err(status) => return vec![refused(&status)],
        };
        let answer = self.query(ask.query.clone());
        vec![message(ask.answer(Header::default(), answer))]
    }

    fn query(&mut self, query: Query) -> Answer {
        let mut cursor = self.state.query_begin(query);
        loop {
            if let Some((answer, _)) = self.state.query_step(&mut cursor, Budget(1)) {
                return answer;
            }
        }
    }

    /// A seed is its own public half here, and of one letter.
    fn signing(&self) -> SigningKeys<'_> {
        let auth = self.state.auth();
        SigningKeys {
            auth,
            public: auth.signing_seed().clone(),
            kid: |public| {
                public
                    .iter()
                    .take(1)
                    .map(|of| format!("{of:02x}"))
                    .collect()
            },
            now_unix_ms: self.clock_ms,
        }
    }

    fn draw(&mut self) -> Bytes {
        self.seeds += 1;
        vec![self.seeds; SIGNING_SEED_BYTES].into()
    }

    /// What a follower finds at a name.
    fn look(&mut self, name: &str) -> Option<LockDetail> {
        let show = LockQuery::Show {
            name: name.to_owned().into(),
            skip: 0,
            limit: PAGE_MAX,
        };
        match self.query(Query::Lock(show)) {
            Answer::Lock(LockAnswer::Show(detail)) => detail,
            other => panic!("{other:?}"),
        }
    }

    /// As the member does it: the lease, unless it is there, then its client record.
    fn open_session(&mut self, text: &str) -> Vec<String> {
        let request: v1::OpenSessionRequest = read(text);
        match synod_native::open_session(&request, CHOSEN as i64) {
            Ok((lease, client)) => {
                self.propose(Ok(lease));
                self.propose(Ok(client))
            }
            Err(status) => vec![refused(&status)],
        }
    }

    /// The same for a lease with a name.
    fn register(&mut self, text: &str) -> Vec<String> {
        let request: v1::RegisterRequest = read(text);
        let grant = v1::GrantRequest {
            id: request.id,
            ttl_ms: request.ttl_ms,
            ..v1::GrantRequest::default()
        };
        let (id, ttl_ms) = (request.id, request.ttl_ms);
        let granted = self.propose(synod_native::grant(grant, CHOSEN as i64));
        if granted[0].contains("(permanent)") && !granted[0].contains("lease-exists") {
            return granted;
        }
        self.propose(synod_native::register(request, id, ttl_ms))
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let (call, text) = line.split_once(' ').unwrap_or((line, ""));
        macro_rules! change {
            ($make:ident) => {
                self.propose(synod_native::$make(read(text)))
            };
            ($make:ident, $chosen:expr) => {
                self.propose(synod_native::$make(read(text), $chosen))
            };
        }
        macro_rules! ask {
            ($make:ident) => {
                self.ask(synod_native::$make(read(text)))
            };
        }
        match call {
            "clock" => {
                self.clock_ms = text.parse().expect("milliseconds");
                let applied = self.batch(Vec::new(), None);
                let ended = format!("ended: {:?}", applied.expired);
                let mut lines = vec![ended];
                lines.extend(self.woken(applied));
                lines
            }
            "renew" => {
                let session = text.parse().expect("a session");
                let applied = self.batch(vec![session], None);
                let (_, ttl_ms) = applied.groups[0].renewals[0];
                vec![message(synod_native::refreshed_session(
                    Header::default(),
                    session,
                    ttl_ms,
                ))]
            }
            "metadata" => vec![match synod_native::parse_guards([text]) {
                Ok(guards) => {
                    let guards = guards.iter();
                    let guards = guards
                        .map(|guard| format!("{} {}", guard.name.escape_ascii(), guard.token));
                    guards.collect::<Vec<_>>().join(", ")
                }
                Err(status) => refused(&status),
            }],
            "kv/put" => change!(put),
            "kv/get" => ask!(get),
            "kv/range" => ask!(range),
            "kv/delete" => change!(delete),
            "kv/txn" => match synod_native::txn(read(text), 4) {
                Ok(Txn::Write(change)) => self.propose(Ok(change)),
                Ok(Txn::Read(ask)) => self.ask(Ok(ask)),
                Err(status) => vec![refused(&synod_native::advised(status))],
            },
            "lease/grant" => change!(grant, CHOSEN as i64),
            "lease/revoke" => change!(revoke),
            "lease/register" => self.register(text),
            "lease/get" => ask!(get_lease),
            "lease/list" => ask!(leases),
            "session/open" => self.open_session(text),
            "session/close" => change!(session_revoke),
            "session/list" => ask!(sessions),
            "lock/acquire" => change!(acquire, CHOSEN),
            "lock/force_release" => change!(force_release),
            "lock/set_text" => change!(set_text),
            "lock/list" => ask!(list_locks),
            "lock/find" => ask!(find),
            "lock/observe" => {
                let request: v1::ObserveRequest = read(text);
                let detail = self.look(&request.name);
                vec![message(Ok(synod_native::observed(detail)))]
            }
            "lock/check" => ask!(check),
            "lock/keys" => {
                let keys = self.signing().list();
                let keys = keys.into_iter().map(|key| v1::VerifyingKey {
                    ed25519: Bytes::new(),
                    ..key
                });
                vec![message(Ok(v1::KeysResponse {
                    header: None,
                    keys: keys.collect(),
                }))]
            }
            "lock/rotate_key" => {
                let seed = self.draw();
                let rotate = self.signing().rotate(&read(text), seed);
                self.propose(rotate)
            }
            "lock/drop_key" => {
                let drop = self.signing().drop_key(&read(text));
                self.propose(drop)
            }
            "lock/release" | "semaphore/release" | "barrier/cancel" => change!(release),
            "lock/show" | "semaphore/show" | "barrier/show" => ask!(show),
            "election/campaign" => change!(campaign, CHOSEN),
            "election/proclaim" => change!(proclaim),
            "election/resign" => change!(resign),
            "election/leader" => ask!(leader),
            "election/observe" => {
                let request: v1::ObserveRequest = read(text);
                let detail = self.look(&request.name);
                vec![message(synod_native::observed_leader(detail))]
            }
            "semaphore/acquire" => change!(acquire_permits, CHOSEN),
            "barrier/enter" => change!(enter, CHOSEN),
            "barrier/leave" => change!(leave),
            "latch/set" => change!(set_latch),
            "latch/count_down" => change!(count_down),
            "latch/wait" => change!(wait_latch, CHOSEN),
            "latch/get" => ask!(get_latch),
            "group/join" => change!(join, CHOSEN),
            "group/update" => change!(update_member),
            "group/leave" => change!(group_leave),
            "group/list" => ask!(group),
            "group/observe" => {
                let request: v1::ObserveGroupRequest = read(text);
                let detail = self.look(&request.name);
                let told = self.groups.entry(request.name).or_default().tell(detail);
                vec![message(told)]
            }
            "id/worker" => change!(worker),
            "id/segment" => change!(segment),
            "id/add" => change!(add),
            other => panic!("{other} is no call"),
        }
    }
}

#[test]
fn calls_answer_as_written() {
    let player = |_: &str| Script {
        state: State::new(Settings::default()),
        clock_ms: 1000,
        waiting: BTreeMap::new(),
        groups: BTreeMap::new(),
        seeds: 0,
    };
    golden::check_scripts("scripts", 13, player, Script::run);
}
