//! The run: operation by operation, both sides at once, until a difference or the end.

use super::answer::{Answer, Frame};
use super::generate::Generator;
use super::known;
use super::operation::Operation;
use super::side::{Side, Stream};
use crate::Outcome;
use crate::connection::Connection;
use crate::process::{Cluster, Product, Program};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long nothing may come before a watch that began in the past counts as caught up. etcd looks after such watches every 100 ms.
const CATCH_UP: Duration = Duration::from_millis(160);
/// The same for watches that had caught up before.
const QUIET: Duration = Duration::from_millis(10);
/// How long one side may lag behind the other with events.
const LAG_MAX: Duration = Duration::from_secs(6);
/// Operations kept for the report.
const RECENT_MAX: usize = 4000;

/// Earlier operations shown with a difference.
const RELATED_MAX: usize = 12;

/// What to compare.
#[derive(Clone, Debug)]
pub struct Plan {
    /// An address, or a binary to start on a fresh directory.
    pub reference: String,
    /// The same for the subject.
    pub subject: String,
    /// Members to start where a binary is given for the subject.
    pub members: usize,
    /// The seed of all choices.
    pub seed: u64,
    /// How many operations.
    pub operations: u64,
    /// Differences to report before giving up. After one the stores may differ, so more than one is for exploring.
    pub differences_max: u64,
    /// Where started servers keep their data.
    pub directory: PathBuf,
}

/// Runs a plan. True when no difference was found.
///
/// # Errors
/// When a server cannot be started, or breaks off.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let (_reference_process, reference) = server(&plan.reference, 1, plan, "reference").await?;
    let (_subject_process, subject) = server(&plan.subject, plan.members, plan, "subject").await?;
    let versions = (version(reference).await?, version(subject).await?);
    let numbers = (major_minor(&versions.0), major_minor(&versions.1));
    let older = numbers.0.min(numbers.1) < (3, 6);
    let stable_max = if older { 1 } else { 12 };
    let mut run = Run {
        reference: Side::connect(reference, stable_max).await?,
        subject: Side::connect(subject, stable_max).await?,
        versions: numbers,
        recent: VecDeque::new(),
        excused: BTreeMap::new(),
        kinds: BTreeMap::new(),
    };
    println!(
        "reference {} (revision {}), subject {} (revision {}), seed {}",
        versions.0,
        run.reference.frame().base,
        versions.1,
        run.subject.frame().base,
        plan.seed
    );
    let mut generator = Generator::new(plan.seed, older);
    let since = Instant::now();
    let mut differences = 0;
    let mut done = 0;
    while done < plan.operations && differences < plan.differences_max {
        done += 1;
        let operation = generator.next();
        let (ours, theirs) = run
            .perform(&operation)
            .await
            .map_err(|error| format!("operation {done}: {}: {error}", brief(&operation)))?;
        for (side, answer) in [("reference", &ours), ("subject", &theirs)] {
            if gone(answer) {
                println!("the {side} died of operation {done}: {}", brief(&operation));
                return Ok(false);
            }
        }
        generator.learn(&operation, &ours);
        differences += u64::from(!run.judge(done, &operation, &ours, &theirs));
        if done.is_multiple_of(10_000) {
            println!(
                "{done} operations, {differences} differences, {:.0} s",
                since.elapsed().as_secs_f64()
            );
        }
    }
    run.summary(done, differences, since.elapsed());
    if differences > 0 {
        println!(
            "again: conformance differential --reference {} --subject {} --seed {} --operations {done}",
            plan.reference, plan.subject, plan.seed
        );
    }
    Ok(differences == 0)
}

struct Run {
    reference: Side,
    subject: Side,
    versions: ((u32, u32), (u32, u32)),
    recent: VecDeque<(u64, Operation)>,
    excused: BTreeMap<&'static str, u64>,
    /// Answers by operation and kind of answer: shows what a run has really reached.
    kinds: BTreeMap<String, u64>,
}

impl Run {
    async fn perform(&mut self, operation: &Operation) -> Outcome<(Answer, Answer)> {
        match operation {
            Operation::WatchHistory(request) => {
                let (ours, theirs) = (
                    self.reference.open_watch(request).await?,
                    self.subject.open_watch(request).await?,
                );
                Ok(settled(
                    (&ours, self.reference.frame()),
                    (&theirs, self.subject.frame()),
                    CATCH_UP,
                )
                .await)
            }
            Operation::WatchSync { thorough } => {
                let (ours, theirs) = (self.reference.live(), self.subject.live());
                let quiet = if *thorough { CATCH_UP } else { QUIET };
                let answers = settled(
                    (ours, self.reference.frame()),
                    (theirs, self.subject.frame()),
                    quiet,
                )
                .await;
                // After a difference both start anew; what was the same is forgotten already.
                if !answers.0.same(&answers.1) {
                    ours.clear();
                    theirs.clear();
                }
                Ok(answers)
            }
            _ => {
                let (ours, theirs) = tokio::join!(
                    self.reference.perform(operation),
                    self.subject.perform(operation)
                );
                Ok((
                    ours.map_err(|error| format!("reference: {error}"))?,
                    theirs.map_err(|error| format!("subject: {error}"))?,
                ))
            }
        }
    }

    /// True when the answers are the same, or known to differ between versions.
    fn judge(
        &mut self,
        number: u64,
        operation: &Operation,
        ours: &Answer,
        theirs: &Answer,
    ) -> bool {
        *self.kinds.entry(kind(operation, ours)).or_default() += 1;
        let mut equal = ours.same(theirs);
        if !equal
            && let Some(known) = known::excuse(
                operation,
                (ours, self.versions.0),
                (theirs, self.versions.1),
            )
        {
            *self.excused.entry(known.name).or_default() += 1;
            equal = true;
        }
        if !equal {
            self.report(number, operation, ours, theirs);
        }
        self.recent.push_back((number, operation.clone()));
        if self.recent.len() > RECENT_MAX {
            self.recent.pop_front();
        }
        equal
    }

    fn report(&self, number: u64, operation: &Operation, ours: &Answer, theirs: &Answer) {
        println!("\ndifference at operation {number}");
        let related: Vec<_> = self
            .recent
            .iter()
            .filter(|(_, earlier)| earlier.bears_on(operation))
            .collect();
        println!(
            "  {} earlier operations of the last {} bear on it; the newest:",
            related.len(),
            self.recent.len()
        );
        for (number, earlier) in &related[related.len().saturating_sub(RELATED_MAX)..] {
            println!("    {number}: {}", brief(earlier));
        }
        println!("  operation: {}", brief(operation));
        println!("  reference: {}", brief(ours));
        println!("  subject:   {}\n", brief(theirs));
    }

    fn summary(&self, operations: u64, differences: u64, elapsed: Duration) {
        println!("\n{:<14} {:<44} {:>8}", "operation", "answer", "times");
        for (kind, times) in &self.kinds {
            let (operation, answer) = kind.split_once(' ').unwrap_or((kind, ""));
            println!("{operation:<14} {answer:<44} {times:>8}");
        }
        for (name, times) in &self.excused {
            let why = known::DIFFERENCES
                .iter()
                .find(|known| known.name == *name)
                .map_or("", |known| known.why);
            println!("excused {times} times, {name}: {why}");
        }
        println!(
            "\n{operations} operations, {differences} differences, {:.0} s",
            elapsed.as_secs_f64()
        );
    }
}

/// Waits until both streams have been quiet and say the same, or the lag is too long; gives what both saw.
async fn settled(
    reference: (&Stream, Frame),
    subject: (&Stream, Frame),
    quiet: Duration,
) -> (Answer, Answer) {
    let since = Instant::now();
    loop {
        let rested = |stream: &Stream| stream.quiet().is_none_or(|rest| rest > quiet);
        if since.elapsed() > quiet && rested(reference.0) && rested(subject.0) {
            let (ours, theirs) = Stream::compare(reference, subject);
            if ours.same(&theirs) || since.elapsed() > LAG_MAX {
                return (ours, theirs);
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn server(
    place: &str,
    members: usize,
    plan: &Plan,
    role: &str,
) -> Outcome<(Option<Cluster>, SocketAddr)> {
    if let Ok(address) = place.parse() {
        return Ok((None, address));
    }
    let program = Program::at(place.as_ref())
        .map_err(|error| format!("--{role} is neither an address nor a binary: {error}"))?;
    // Ours is generous by default; here both count alike.
    let extra: &[&str] = match program.product {
        Product::Synod => &["--txn-operations-max", "128"],
        Product::Etcd => &[],
    };
    let cluster = Cluster::start(&program, members, &plan.directory.join(role), extra)?;
    let address = cluster.clients()[0];
    Ok((Some(cluster), address))
}

async fn version(address: SocketAddr) -> Outcome<String> {
    let mut connection = Connection::new(address);
    connection.ready(Duration::from_secs(30)).await?;
    Ok(connection.status().await?.version)
}

fn major_minor(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Whether an answer is not the server's: the connection broke.
fn gone(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused(tonic::Code::Unavailable | tonic::Code::Unknown, text) if text.contains("transport error") || text.contains("connect error"))
}

/// What was asked and how it ended, for counting.
fn kind(operation: &Operation, answer: &Answer) -> String {
    let asked: String = format!("{operation:?}")
        .chars()
        .take_while(|c| c.is_alphanumeric())
        .collect();
    match answer {
        Answer::Refused(code, text) => format!(
            "{asked} {code:?}: {}",
            text.trim_start_matches("etcdserver: ")
        ),
        Answer::Txn(response) => format!(
            "{asked} ok, {}",
            if response.succeeded {
                "success"
            } else {
                "failure"
            }
        ),
        _ => format!("{asked} ok"),
    }
}

/// Debug output without what is empty, and with long values cut.
fn brief(thing: &impl std::fmt::Debug) -> String {
    const LENGTH_MAX: usize = 8000;
    let text = shortened(&without_defaults(&format!("{thing:?}")));
    if text.len() <= LENGTH_MAX {
        text
    } else {
        format!(
            "{}… ({} characters)",
            text.chars().take(LENGTH_MAX).collect::<String>(),
            text.len()
        )
    }
}

/// Leaves out fields that say nothing, and the wrapping of every second field.
fn without_defaults(text: &str) -> String {
    const EMPTY: [&str; 10] = [
        "0",
        "false",
        "b\"\"",
        "None",
        "[]",
        "Key",
        "Equal",
        "\"\"",
        "RangeResponse {}",
        "ResponseHeader {}",
    ];
    let mut text = text
        .replace("RequestOp { request: Some(", "(")
        .replace("ResponseOp { response: Some(", "(")
        .replace(") }", ")");
    loop {
        let before = text.len();
        for empty in EMPTY {
            for end in [", ", " }"] {
                let mut from = 0;
                while let Some(found) = text[from..].find(&format!(": {empty}{end}")) {
                    let at = from + found;
                    let start = text[..at]
                        .rfind(|c: char| !(c.is_alphanumeric() || c == '_' || c == '#'))
                        .map_or(0, |at| at + 1);
                    let after = at + 2 + empty.len() + if end == ", " { 2 } else { 0 };
                    text.replace_range(start..after, "");
                    from = start;
                }
            }
        }
        if text.len() == before {
            return text.replace(",  }", " }").replace("{  }", "{}");
        }
    }
}

/// Long runs of one character say no more than their length.
fn shortened(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let runs = characters.chunk_by(|a, b| a == b);
    runs.map(|run| {
        if run.len() > 20 {
            format!("{}×{}", run[0], run.len())
        } else {
            run.iter().collect()
        }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out() {
        assert_eq!(
            without_defaults(
                "Put(PutRequest { key: b\"a\", value: b\"\", lease: 0, prev_kv: true, ignore_lease: false })"
            ),
            "Put(PutRequest { key: b\"a\", prev_kv: true })"
        );
        assert_eq!(
            without_defaults("KeyValue { lease: 10, version: 0 }"),
            "KeyValue { lease: 10 }"
        );
    }

    #[test]
    fn runs_are_shortened() {
        assert_eq!(shortened(&format!("a{}b", "v".repeat(3000))), "av×3000b");
    }
}
