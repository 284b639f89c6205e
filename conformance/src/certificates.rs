//! Certificates of three members are replaced, one member after the other, while etcd's own client writes, reads and watches over TLS: no request may
//! fail, and no connection be lost.

use crate::faults::history;
use crate::faults::judge;
use crate::faults::load::{self, Load};
use crate::process::{Cluster, Place, Product, Program};
use crate::report::Report;
use crate::{Outcome, faults};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long members may take to serve.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a member may take to notice new files.
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);
/// What a member logs when it took up new certificates: once for each port.
const RENEWED: &str = "certificates renewed";
const BROKEN: &str = "new certificates cannot be used";

/// Runs it. True when all held.
///
/// # Errors
/// When something cannot be started.
pub async fn run(program: &Path, directory: &Path, duration: Duration, seed: u64) -> Outcome<bool> {
    let program = Program::at(program)?;
    if program.product != Product::Synod {
        return Err("certificates are made with `synod cert`; pass Synod's binary".into());
    }
    let client = load::program()?;
    let place = Certificates::make(&program.path, &directory.join("certificates"))?;
    let mut places = Place::on_loopback(3)?;
    for (at, member) in places.iter_mut().enumerate() {
        member.environment = place.environment(&format!("n{}", at + 1));
    }
    let mut cluster = Cluster::start_at(&program, places, directory, &[])?;
    let mut report = Report::default();
    let since = Instant::now();
    while let Err(error) = place.synod(&cluster, &["status"]) {
        if since.elapsed() > START_LIMIT {
            let log = cluster.log_tail(0, 20);
            return Err(format!("the members do not serve: {error}\n{log}").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let history = directory.join("history.jsonl");
    let mut load = Load::start(
        &client,
        &cluster.clients(),
        seed,
        &history,
        &place.go_flags(),
    )?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let until = Instant::now() + duration;
    let mut renewals = 0;
    while renewals == 0 || Instant::now() < until {
        for at in 0..3 {
            renew(&place, &cluster, &mut load, &mut report, at).await?;
        }
        renewals += 1;
    }
    load.healed().await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    load.finish().await?;
    report.note(format!(
        "the certificates of each member were replaced {renewals} times"
    ));
    for at in 0..3 {
        report.check(
            "every member runs at the end",
            cluster.runs(at),
            &cluster.members()[at].name,
        );
        let lost = log_lines(&cluster, at, "connection to member closed");
        report.check(
            "members kept their connections",
            lost == 0,
            format!("{lost} lost"),
        );
    }
    let records = history::read(&history)?;
    let verdict = judge::judge(&records, faults::promise(Product::Synod));
    let failed: Vec<String> = records
        .iter()
        .filter(|record| !record.error.is_empty() && record.outcome == "unknown")
        .map(|record| format!("{} {}: {}", record.kind, record.key, record.error))
        .take(3)
        .collect();
    report.check(
        "no request failed",
        verdict.unknown == 0 && failed.is_empty(),
        format!(
            "{} answers, {} of unknown outcome {failed:?}",
            verdict.answered, verdict.unknown
        ),
    );
    report.check(
        "there were requests",
        verdict.answered > 1_000,
        verdict.answered,
    );
    faults::tell(&verdict, &mut report);
    Ok(report.finish())
}

/// Replaces the certificate of one member, first by one that cannot be used.
async fn renew(
    place: &Certificates,
    cluster: &Cluster,
    load: &mut Load,
    report: &mut Report,
    at: usize,
) -> Outcome<()> {
    let name = cluster.members()[at].name.clone();
    let key = place.file(&format!("{name}-key.pem"));
    let (renewed, broken) = (
        log_lines(cluster, at, RENEWED),
        log_lines(cluster, at, BROKEN),
    );
    load.mark(&format!(
        "{name} gets a key that is none, then a new certificate"
    ))
    .await?;
    std::fs::write(&key, "nothing of the kind\n")?;
    let noticed = log_reaches(cluster, at, BROKEN, broken + 2).await;
    report.check(
        "what cannot be used is noticed on both ports",
        noticed,
        &name,
    );
    place.synod(cluster, &["get", "x"])?;
    place.issue("server", &name)?;
    let taken = log_reaches(cluster, at, RENEWED, renewed + 2).await;
    report.check("a new certificate is taken up on both ports", taken, &name);
    place.synod(cluster, &["get", "x"])?;
    Ok(())
}

fn log_lines(cluster: &Cluster, at: usize, text: &str) -> usize {
    let log = cluster.log_tail(at, usize::MAX);
    log.lines().filter(|line| line.contains(text)).count()
}

async fn log_reaches(cluster: &Cluster, at: usize, text: &str, lines: usize) -> bool {
    let since = Instant::now();
    while log_lines(cluster, at, text) < lines {
        if since.elapsed() > RENEWAL_LIMIT {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    true
}

/// An authority made by the binary under test, and what it vouches for.
pub(crate) struct Certificates {
    program: PathBuf,
    directory: PathBuf,
}

impl Certificates {
    /// Makes an authority, certificates of three members and one of a client.
    pub(crate) fn make(program: &Path, directory: &Path) -> Outcome<Certificates> {
        let place = Certificates {
            program: program.to_path_buf(),
            directory: directory.to_path_buf(),
        };
        place.cert(&["ca"])?;
        for name in ["n1", "n2", "n3"] {
            place.issue("server", name)?;
        }
        place.issue("client", "load")?;
        Ok(place)
    }

    fn issue(&self, usage: &str, name: &str) -> Outcome<()> {
        self.cert(&[usage, "--name", name, "--replace"])
    }

    fn cert(&self, arguments: &[&str]) -> Outcome<()> {
        let mut command = Command::new(&self.program);
        run_to_end(
            command
                .args(["cert", "--dir"])
                .arg(&self.directory)
                .args(arguments),
        )
    }

    /// A client command, which dials anew each time.
    fn synod(&self, cluster: &Cluster, arguments: &[&str]) -> Outcome<()> {
        for address in cluster.clients() {
            let mut command = Command::new(&self.program);
            command
                .args(arguments)
                .args(["--endpoints", &format!("https://{address}")])
                .args(["--cacert", &self.file("ca.pem")])
                .args(["--cert", &self.file("load.pem")])
                .args(["--key", &self.file("load-key.pem")]);
            run_to_end(&mut command)?;
        }
        Ok(())
    }

    fn environment(&self, name: &str) -> Vec<(String, String)> {
        let own = self.file(&format!("{name}.pem"));
        let key = self.file(&format!("{name}-key.pem"));
        let pairs = [
            ("SYNOD_CERT_FILE", own.clone()),
            ("SYNOD_KEY_FILE", key.clone()),
            ("SYNOD_TRUSTED_CA_FILE", self.file("ca.pem")),
            ("SYNOD_PEER_CERT_FILE", own),
            ("SYNOD_PEER_KEY_FILE", key),
            ("SYNOD_PEER_TRUSTED_CA_FILE", self.file("ca.pem")),
            ("SYNOD_PEER_CERT_ALLOWED_CN", "n1,n2,n3".to_owned()),
        ];
        pairs.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    fn go_flags(&self) -> Vec<String> {
        let files = [
            ("-cacert", "ca.pem"),
            ("-cert", "load.pem"),
            ("-key", "load-key.pem"),
        ];
        files
            .iter()
            .flat_map(|(flag, file)| [(*flag).to_owned(), self.file(file)])
            .collect()
    }

    /// The path of one of its files.
    pub(crate) fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

fn run_to_end(command: &mut Command) -> Outcome<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?}: {}", error.trim()).into())
}
