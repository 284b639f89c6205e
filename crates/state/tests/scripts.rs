//! Golden scripts: what every kind of request answers. `UPDATE_GOLDEN=1 cargo test -p synod-state --test scripts` rewrites the answers.
//!
//! A script's first line says its goal. A line that begins with `> ` is a request; the lines up to the next one are its answer.
//! Ranges are `a` (one key), `a..c` and `a..` (from a on); `..` is everything.

mod golden;

use bytes::Bytes;
use synod_state::*;

/// A word, or words in parentheses.
#[derive(Debug)]
enum Term {
    Word(String),
    List(Vec<Term>),
}

fn parse(words: &mut std::iter::Peekable<std::vec::IntoIter<String>>) -> Vec<Term> {
    let mut terms = Vec::new();
    while let Some(word) = words.next() {
        match &word[..] {
            "(" => terms.push(Term::List(parse(words))),
            ")" => return terms,
            _ => terms.push(Term::Word(word)),
        }
    }
    terms
}

fn terms(line: &str) -> Vec<Term> {
    let spaced = line.replace('(', " ( ").replace(')', " ) ");
    let words: Vec<String> = spaced.split_whitespace().map(String::from).collect();
    parse(&mut words.into_iter().peekable())
}

/// The words of one request.
struct Words<'a>(&'a [Term]);

impl<'a> Words<'a> {
    fn word(&self, at: usize) -> &'a str {
        match self.0.get(at) {
            Some(Term::Word(word)) => word,
            other => panic!("a word is expected at {at}, not {other:?}"),
        }
    }

    fn number(&self, at: usize) -> i64 {
        self.word(at)
            .parse()
            .unwrap_or_else(|_| panic!("a number is expected, not {}", self.word(at)))
    }

    fn has(&self, flag: &str) -> bool {
        self.0
            .iter()
            .any(|term| matches!(term, Term::Word(word) if word == flag))
    }

    fn option(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find_map(|term| match term {
            Term::Word(word) => word.strip_prefix(name)?.strip_prefix('='),
            Term::List(_) => None,
        })
    }

    fn option_number(&self, name: &str) -> i64 {
        self.option(name)
            .map_or(0, |number| number.parse().expect("a number"))
    }

    fn choice(&self, name: &str, choices: &[&str]) -> i32 {
        self.option(name).map_or(0, |given| {
            choices
                .iter()
                .position(|choice| *choice == given)
                .expect("a known choice") as i32
        })
    }
}

fn bounds(text: &str) -> (Bytes, Bytes) {
    let bytes = |text: &str| {
        Bytes::copy_from_slice(if text.is_empty() {
            b"\0"
        } else {
            text.as_bytes()
        })
    };
    match text.split_once("..") {
        Some((start, end)) => (bytes(start), bytes(end)),
        None => (bytes(text), Bytes::new()),
    }
}

fn put(words: &Words<'_>) -> Put {
    Put {
        key: bounds(words.word(1)).0,
        value: Bytes::copy_from_slice(if words.word(2) == "-" {
            b""
        } else {
            words.word(2).as_bytes()
        }),
        lease: words.option_number("lease"),
        prev_kv: words.has("prev"),
        ignore_value: words.has("ignore-value"),
        ignore_lease: words.has("ignore-lease"),
    }
}

fn delete(words: &Words<'_>) -> DeleteRange {
    let (key, range_end) = bounds(words.word(1));
    DeleteRange {
        key,
        range_end,
        prev_kv: words.has("prev"),
    }
}

const TARGETS: [&str; 5] = ["version", "create", "mod", "value", "lease"];

fn range(words: &Words<'_>) -> Range {
    let (key, range_end) = bounds(words.word(1));
    Range {
        key,
        range_end,
        limit: words.option_number("limit"),
        revision: words.option_number("rev"),
        sort_order: words.choice("order", &["none", "ascending", "descending"]),
        sort_target: words.choice("by", &["key", "version", "create", "mod", "value"]),
        keys_only: words.has("keys-only"),
        count_only: words.has("count-only"),
        min_mod_revision: words.option_number("min-mod"),
        max_mod_revision: words.option_number("max-mod"),
        min_create_revision: words.option_number("min-create"),
        max_create_revision: words.option_number("max-create"),
    }
}

fn list(term: &Term) -> &[Term] {
    match term {
        Term::List(terms) => terms,
        Term::Word(word) => panic!("a list is expected, not {word}"),
    }
}

fn txn(terms: &[Term]) -> Txn {
    let mut txn = Txn::default();
    for term in terms {
        let part = list(term);
        match Words(part).word(0) {
            "if" => {
                txn.compares = part[1..]
                    .iter()
                    .map(|term| compare(&Words(list(term))))
                    .collect()
            }
            "then" => txn.success = part[1..].iter().map(|term| step(list(term))).collect(),
            "else" => txn.failure = part[1..].iter().map(|term| step(list(term))).collect(),
            other => panic!("if, then or else is expected, not {other}"),
        }
    }
    txn
}

/// `(version a = 0)`
fn compare(words: &Words<'_>) -> Compare {
    let target = TARGETS
        .iter()
        .position(|target| *target == words.word(0))
        .expect("a known target");
    let (key, range_end) = bounds(words.word(1));
    let result = ["=", ">", "<", "!="]
        .iter()
        .position(|result| *result == words.word(2))
        .expect("a known result");
    let value = if target == 3 {
        Bytes::copy_from_slice(words.word(3).as_bytes())
    } else {
        Bytes::new()
    };
    let number = if target == 3 { 0 } else { words.number(3) };
    Compare {
        result: result as i32,
        target: target as i32,
        key,
        range_end,
        number,
        value,
    }
}

fn step(terms: &[Term]) -> TxnOperation {
    let words = Words(terms);
    let step = match words.word(0) {
        "put" => TxnStep::Put(put(&words)),
        "delete" => TxnStep::DeleteRange(delete(&words)),
        "range" => TxnStep::Range(range(&words)),
        "txn" => TxnStep::Txn(txn(&terms[1..])),
        other => panic!("{other} is no step"),
    };
    TxnOperation { step: Some(step) }
}

/// Text of bytes; long ones as their length.
fn text(bytes: &[u8]) -> String {
    if bytes.len() > 20 {
        format!("<{} bytes>", bytes.len())
    } else {
        bytes.escape_ascii().to_string()
    }
}

fn kv(kv: &KeyValue) -> String {
    let KeyValue {
        key,
        value,
        create_revision,
        mod_revision,
        version,
        lease,
    } = kv;
    let lease = if *lease == 0 {
        String::new()
    } else {
        format!(" lease {lease}")
    };
    format!(
        "{}={} create {create_revision} mod {mod_revision} version {version}{lease}",
        text(key),
        text(value)
    )
}

fn range_lines(reply: &RangeReply, out: &mut Vec<String>) {
    out.push(format!(
        "count {}{}",
        reply.count,
        if reply.more { " more" } else { "" }
    ));
    out.extend(reply.kvs.iter().map(|found| format!("  {}", kv(found))));
}

fn deleted_lines(deleted: i64, prev: &[KeyValue], out: &mut Vec<String>) {
    out.push(format!("deleted {deleted}"));
    out.extend(prev.iter().map(|prev| format!("  was {}", kv(prev))));
}

fn put_line(prev: &Option<KeyValue>) -> String {
    prev.as_ref()
        .map_or("put".into(), |prev| format!("put, was {}", kv(prev)))
}

fn txn_lines(reply: &TxnReply, out: &mut Vec<String>) {
    out.push(format!(
        "{} at {}",
        if reply.succeeded { "then" } else { "else" },
        reply.revision
    ));
    for (step, revision) in reply.steps.iter().zip(&reply.revisions) {
        let mut lines = Vec::new();
        match step {
            StepReply::Range(reply) => range_lines(reply, &mut lines),
            StepReply::Put { prev } => lines.push(put_line(prev)),
            StepReply::DeleteRange { deleted, prev } => deleted_lines(*deleted, prev, &mut lines),
            StepReply::Txn(reply) => txn_lines(reply, &mut lines),
        }
        lines[0] += &format!(" [{revision}]");
        out.extend(lines.iter().map(|line| format!("  {line}")));
    }
}

fn alarm_line(alarm: &Alarm) -> String {
    format!("alarm {:?} of member {}", alarm.kind, alarm.member)
}

fn reply_lines(reply: &Reply) -> Vec<String> {
    let mut out = Vec::new();
    match reply {
        Reply::Put { prev } => out.push(put_line(prev)),
        Reply::DeleteRange { deleted, prev } => deleted_lines(*deleted, prev, &mut out),
        Reply::Txn(reply) => txn_lines(reply, &mut out),
        Reply::Compact => out.push("compacted".into()),
        Reply::LeaseGrant { id, ttl_ms } => out.push(format!("lease {id} for {ttl_ms} ms")),
        Reply::LeaseRevoke => out.push("revoked".into()),
        Reply::SetFeatureLevel => out.push("level set".into()),
        Reply::SetBytesMax => out.push("limit set".into()),
        Reply::SetAlarm { was_raised } => out.push(format!("alarm set, was raised: {was_raised}")),
        Reply::Auth => out.push("users changed".into()),
        Reply::Lock(reply) => out.push(format!("{reply:?}")),
        Reply::Client(reply) => out.push(format!("{reply:?}")),
        Reply::Id(reply) => out.push(format!("{reply:?}")),
        Reply::Applied => out.push("applied".into()),
        Reply::Rejected(rejection) => out.push(format!("refused: {rejection:?}")),
    }
    out
}

fn answer_lines(answer: &Answer) -> Vec<String> {
    let mut out = Vec::new();
    match answer {
        Answer::Range(reply) => range_lines(reply, &mut out),
        Answer::Txn(reply) => txn_lines(reply, &mut out),
        Answer::Lease(None) => out.push("no such lease".into()),
        Answer::Lease(Some(lease)) => {
            let keys: Vec<_> = lease.keys.iter().map(|key| text(key)).collect();
            out.push(format!(
                "lease {} granted {} ms, remaining {} ms, keys [{}]",
                lease.id,
                lease.granted_ms,
                lease.remaining_ms,
                keys.join(" ")
            ));
        }
        Answer::Leases(ids) => out.push(format!("leases {ids:?}")),
        Answer::Sessions { sessions, .. } => out.push(format!("{sessions:?}")),
        Answer::HashKv {
            compact_revision,
            hash_revision,
            ..
        } => out.push(format!("hash from {compact_revision} to {hash_revision}")),
        Answer::Alarms(alarms) => out.extend(alarms.iter().map(alarm_line)),
        Answer::Lock(answer) => out.push(format!("{answer:?}")),
        Answer::Position => out.push("position".into()),
        Answer::Rejected(rejection) => out.push(format!("refused: {rejection:?}")),
    }
    out
}

struct Script {
    state: State,
    clock_ms: u64,
}

impl Script {
    fn batch(&mut self, renewals: Vec<i64>, operation: Option<Operation>) -> Applied {
        let commands = operation
            .into_iter()
            .map(|operation| Command {
                operation: Some(operation),
                ..Command::default()
            })
            .collect();
        golden::apply(&mut self.state, (self.clock_ms, 0), renewals, commands)
    }

    fn command(&mut self, operation: Operation) -> Vec<String> {
        let applied = self.batch(Vec::new(), Some(operation));
        let (reply, revision) = &applied.groups[0].replies[0];
        let mut lines = reply_lines(reply);
        lines[0] += &format!(" (revision {revision})");
        lines
    }

    fn query(&mut self, query: Query) -> Vec<String> {
        let mut cursor = self.state.query_begin(query);
        loop {
            if let Some((answer, _)) = self.state.query_step(&mut cursor, Budget(2)) {
                return answer_lines(&answer);
            }
        }
    }

    fn events(&self, from: i64) -> Vec<String> {
        let mut lines = Vec::new();
        let next = self.state.events(from, Budget(100), &mut |event| {
            let EventView {
                revision,
                key,
                value,
                create_revision,
                version,
                ..
            } = event;
            let life = if event.deleted {
                "removed".into()
            } else {
                format!(
                    "={} create {create_revision} version {version}",
                    text(value)
                )
            };
            lines.push(format!("{revision} {} {life}", text(key)));
        });
        lines.push(match next {
            Ok(next) => format!("next {next}"),
            Err(compacted) => format!("compacted up to {compacted}"),
        });
        lines
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let terms = terms(line);
        let words = Words(&terms);
        match words.word(0) {
            "put" => self.command(Operation::Put(put(&words))),
            "delete" => self.command(Operation::DeleteRange(delete(&words))),
            "txn" => self.command(Operation::Txn(txn(&terms[1..]))),
            "compact" => self.command(Operation::Compact(Compact {
                revision: words.number(1),
            })),
            "grant" => self.command(Operation::LeaseGrant(LeaseGrant {
                id: words.number(1),
                ttl_ms: words.number(2) as u64,
            })),
            "revoke" => self.command(Operation::LeaseRevoke(LeaseRevoke {
                id: words.number(1),
            })),
            "renew" => vec![format!(
                "{:?}",
                self.batch(vec![words.number(1)], None).groups[0].renewals
            )],
            "clock" => {
                self.clock_ms = words.number(1) as u64;
                let applied = self.batch(Vec::new(), None);
                vec![format!(
                    "expired {:?}, next at {:?}, revision {}",
                    applied.expired,
                    self.state.next_deadline_ms(),
                    self.state.revision()
                )]
            }
            "range" => self.query(Query::Range(range(&words))),
            "read" => self.query(Query::Txn(txn(&terms[1..]))),
            "ttl" => self.query(Query::LeaseTimeToLive {
                id: words.number(1),
                keys: true,
            }),
            "limit" => self.command(Operation::SetBytesMax(SetBytesMax {
                bytes_max: words.number(1) as u64,
            })),
            "raise" | "lower" => self.command(Operation::SetAlarm(SetAlarm {
                kind: words.number(1) as i32,
                member: words.number(2) as u64,
                raise: words.word(0) == "raise",
            })),
            "alarms" => self.query(Query::Alarms),
            "leases" => self.query(Query::Leases),
            "hash" => self.query(Query::HashKv {
                revision: words.number(1),
            }),
            "events" => self.events(words.number(1)),
            "bytes" => vec![format!(
                "{} bytes, {} keys",
                self.state.bytes(),
                self.state.keys()
            )],
            "free" => {
                while self.state.background_step(Budget(1)) {}
                vec!["freed".into()]
            }
            other => panic!("{other} is no request"),
        }
    }
}

fn player(script: &str) -> Script {
    let bytes_max = script
        .lines()
        .find_map(|line| line.strip_prefix("# bytes-max "))
        .map_or(u64::MAX, |number| number.parse().expect("a number"));
    Script {
        state: State::new(Settings {
            state_bytes_max: bytes_max,
            ..Settings::default()
        }),
        clock_ms: 0,
    }
}

#[test]
fn scripts_answer_as_written() {
    golden::check_scripts("scripts", 9, player, Script::run);
}
