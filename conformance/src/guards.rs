//! Guards through published clients of etcd, which know nothing of them: a header is all it takes. While the lock is held the put is applied; once it is lost
//! it is refused, with the text that docs/operate/locks.md shows.

use crate::Outcome;
use crate::connection::Connection;
use crate::faults;
use crate::process::{Cluster, Product, Program};
use crate::report::Report;
use client::{Client, Mutex, Session};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_secs(60);
/// Percent-coded in headers: a colon ends the name.
const NAME: &str = "nightly: 1";
const CODED: &str = "nightly%3A%201";

/// A program that puts a key under a guard.
enum Hand {
    Python(PathBuf),
    Go(PathBuf),
}

impl Hand {
    fn name(&self) -> &'static str {
        match self {
            Hand::Python(_) => "Python etcd3",
            Hand::Go(_) => "Go clientv3",
        }
    }

    /// What it prints.
    async fn put(&self, cluster: &Cluster, token: u64) -> Outcome<String> {
        let guard = format!("{CODED}:{token}");
        let mut command = match self {
            Hand::Python(script) => {
                let mut command = Command::new("python3");
                let last = cluster.clients()[2].to_string();
                command.arg(script).args([&last, &guard, "guard/python"]);
                command
            }
            Hand::Go(binary) => {
                let mut command = Command::new(binary);
                command.args(["-endpoints", &cluster.endpoints(), "-guard", &guard]);
                command
            }
        };
        let output = command.stdin(Stdio::null()).output().await?;
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).trim().into()),
        }
    }

    /// How it says a refusal.
    fn refused(&self, text: &str) -> String {
        let code = match self {
            Hand::Python(_) => "FAILED_PRECONDITION",
            Hand::Go(_) => "FailedPrecondition",
        };
        format!("{code} guard-not-held: {text}")
    }
}

/// The programs that can be run here.
async fn hands(report: &mut Report) -> Vec<Hand> {
    let mut hands = Vec::new();
    let known = Command::new("python3")
        .args(["-c", "import etcd3"])
        .stderr(Stdio::null())
        .status()
        .await;
    if known.is_ok_and(|status| status.success()) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("guard.py");
        hands.push(Hand::Python(script));
    } else {
        report.skip(
            "Python etcd3",
            "not installed (pip install etcd3 'protobuf<4')",
        );
    }
    match faults::load::program() {
        Ok(binary) => hands.push(Hand::Go(binary)),
        Err(error) => report.skip("Go clientv3", &error.to_string()),
    }
    hands
}

/// Runs it. True when all held.
///
/// # Errors
/// When the members cannot be started.
pub async fn run(program: &Path, directory: &Path) -> Outcome<bool> {
    let program = Program::at(program)?;
    if program.product != Product::Synod {
        return Err("etcd has no guards; pass Synod's binary".into());
    }
    let mut report = Report::default();
    let hands = hands(&mut report).await;
    let cluster = Cluster::start(&program, 3, directory, &[])?;
    for address in cluster.clients() {
        Connection::new(address).ready(PATIENCE).await?;
    }
    let client = Client::new(cluster.clients().iter().map(ToString::to_string))?;
    let session = Session::open(&client).await?;
    for hand in &hands {
        let held = Mutex::new(&session, NAME).lock().await?;
        let stale = held.token();
        check(&mut report, hand, &cluster, stale, "it is held", "ok").await?;
        held.release().await?;
        let text = format!("synod: guard: lock {NAME} is not held with token {stale}");
        let refused = hand.refused(&text);
        check(
            &mut report,
            hand,
            &cluster,
            stale,
            "nobody has it",
            &refused,
        )
        .await?;
        let next = Mutex::new(&session, NAME).lock().await?;
        let refused = hand.refused(&format!("{text}, its newest is {}", next.token()));
        check(
            &mut report,
            hand,
            &cluster,
            stale,
            "another one has it",
            &refused,
        )
        .await?;
        check(
            &mut report,
            hand,
            &cluster,
            next.token(),
            "it is held again",
            "ok",
        )
        .await?;
        next.release().await?;
    }
    session.close().await?;
    Ok(report.finish())
}

/// One put, and what its program must print.
async fn check(
    report: &mut Report,
    hand: &Hand,
    cluster: &Cluster,
    token: u64,
    when: &str,
    due: &str,
) -> Outcome<()> {
    let printed = hand.put(cluster, token).await?;
    let what = format!("{}, a guarded put when {when}", hand.name());
    report.check(&what, printed == due, &printed);
    Ok(())
}
