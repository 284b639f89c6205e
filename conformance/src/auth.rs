//! Users, roles, permissions and tokens: the same script played to a real etcd and to Synod, every answer compared. Then the same keys for JSON web tokens
//! are given to both, and each must take the other's tokens.

/// Asks for something about users and notes the answer.
macro_rules! ask {
    ($side:ident, $user:expr, $call:ident($request:expr)) => {{
        let message = $request;
        let user = if $user.is_empty() { "nobody" } else { $user };
        let step = format!("{user}: {} {message:?}", stringify!($call));
        let request = $side.request($user, message);
        let answer = $side.auth().$call(request).await;
        $side.note(step, answer.map(|answer| answer.into_inner()));
    }};
}

/// The same of another service, under a name.
macro_rules! ask_other {
    ($side:ident, $user:expr, $name:expr, $service:ident.$call:ident($request:expr)) => {{
        let user = if $user.is_empty() { "nobody" } else { $user };
        let request = $side.request($user, $request);
        let answer = $side.member().$service.$call(request).await;
        $side.note(
            format!("{user}: {}", $name),
            answer.map(|answer| answer.into_inner()),
        );
    }};
}

mod access;
mod commands;
mod requests;
mod script;
mod side;

use crate::Outcome;
use crate::process::{Cluster, Product, Program};
use crate::report::Report;
use side::Side;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a server may take to serve.
const START_MAX: Duration = Duration::from_secs(20);

/// What to compare.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A real etcd.
    pub reference: PathBuf,
    /// The binary under test.
    pub subject: PathBuf,
    /// Members of the subject; the script goes to another one with each step.
    pub members: usize,
    /// Where started servers keep their data.
    pub directory: PathBuf,
}

/// Plays the script to both, with simple tokens and with signed ones. True if nothing differed but what is known to.
///
/// # Errors
/// When a server cannot be started, or breaks off.
pub async fn run(plan: &Plan) -> Outcome<bool> {
    let mut report = Report::default();
    std::fs::create_dir_all(&plan.directory)?;
    compare(plan, "simple", &["--auth-token-ttl", "3"], &mut report).await?;
    compare(plan, "commands", &[], &mut report).await?;
    match keys(&plan.directory) {
        None => report.skip("JSON web tokens", "openssl is not installed"),
        Some((private, public)) => {
            for (method, private, public) in [
                ("RS256", &private[0], &public[0]),
                ("ES256", &private[1], &public[1]),
                ("ES512", &private[2], &public[2]),
                ("EdDSA", &private[3], &public[3]),
            ] {
                let token =
                    format!("jwt,sign-method={method},priv-key={private},pub-key={public},ttl=60s");
                compare(plan, method, &["--auth-token", &token], &mut report).await?;
            }
        }
    }
    Ok(report.finish())
}

/// Starts both, plays, compares.
async fn compare(plan: &Plan, name: &str, extra: &[&str], report: &mut Report) -> Outcome<()> {
    let flags = [extra, &["--bcrypt-cost", "4"]].concat();
    let start = |path: &Path, count| {
        let program = Program::at(path)?;
        let place = match program.product {
            Product::Etcd => "reference",
            Product::Synod => "subject",
        };
        Cluster::start(
            &program,
            count,
            &plan.directory.join(format!("{place}-{name}")),
            &flags,
        )
    };
    let (reference, subject) = (
        start(&plan.reference, 1)?,
        start(&plan.subject, plan.members)?,
    );
    let mut theirs = Side::connect(&reference.clients(), START_MAX).await?;
    let mut ours = Side::connect(&subject.clients(), START_MAX).await?;
    let signed = name != "simple";
    if name == "commands" {
        return commands::compare(report, &reference.endpoints(), &subject.endpoints()).await;
    }
    script::play(&mut theirs, signed).await?;
    script::play(&mut ours, signed).await?;
    let (mut same, mut known) = (0, 0);
    for (their, our) in theirs.answers.iter().zip(&ours.answers) {
        let allowed = script::KNOWN.iter().find(|known| known.step == their.step);
        match allowed {
            _ if their == our => same += 1,
            Some(allowed) if our.answer.contains(allowed.ours) => known += 1,
            _ => report.check(
                &format!("{name}: {}", their.step),
                false,
                format_args!("etcd says {}\n     Synod says {}", their.answer, our.answer),
            ),
        }
    }
    let played = theirs.answers.len();
    report.check(
        &format!("{name}: {played} answers compared"),
        played == ours.answers.len() && same + known == played,
        format_args!("{same} equal, {known} stricter on purpose"),
    );
    if signed {
        // The script left both with the same users at the same revision.
        let (from_them, from_us) = (theirs.token("root"), ours.token("root"));
        for (whose, taker, token) in [
            ("etcd's", &mut ours, from_them),
            ("Synod's", &mut theirs, from_us),
        ] {
            let taken = taker.takes(&token).await;
            report.check(
                &format!("{name}: {whose} token is taken by the other"),
                taken.is_ok(),
                format_args!("{taken:?}"),
            );
        }
    }
    Ok(())
}

/// Private and public keys for RS256, ES256, ES512 and EdDSA, made by openssl; the EC ones in the older form of `ecparam`, which is not PKCS #8.
fn keys(directory: &Path) -> Option<([String; 4], [String; 4])> {
    let file = |name: &str| directory.join(name).display().to_string();
    let private = ["rsa.key", "p256.key", "p521.key", "ed25519.key"].map(file);
    let public = ["rsa.pub", "p256.pub", "p521.pub", "ed25519.pub"].map(file);
    let openssl = |arguments: &[&str]| {
        let done = std::process::Command::new("openssl")
            .args(arguments)
            .output();
        done.is_ok_and(|done| done.status.success())
    };
    let made = openssl(&["genrsa", "-out", &private[0], "2048"])
        && openssl(&[
            "ecparam",
            "-name",
            "prime256v1",
            "-genkey",
            "-noout",
            "-out",
            &private[1],
        ])
        && openssl(&[
            "ecparam",
            "-name",
            "secp521r1",
            "-genkey",
            "-noout",
            "-out",
            &private[2],
        ])
        && openssl(&["genpkey", "-algorithm", "ed25519", "-out", &private[3]])
        && private
            .iter()
            .zip(&public)
            .all(|(private, public)| openssl(&["pkey", "-in", private, "-pubout", "-out", public]));
    made.then_some((private, public))
}
