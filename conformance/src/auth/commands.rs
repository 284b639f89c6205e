//! Every command of etcdctl about users, roles and authentication, to both sides; outputs and exit codes compared.

use crate::Outcome;
use crate::etcdctl::{Called, Etcdctl};
use crate::report::Report;
use std::time::Duration;

/// How long a command may take.
const LIMIT: Duration = Duration::from_secs(20);

/// Standard input and arguments, apart by blanks; a word of `''` is an empty one.
const COMMANDS: &[(&str, &str)] = &[
    ("", "put a/1 v"),
    ("", "auth status"),
    ("", "auth enable"),
    ("", "auth disable"),
    ("", "user list"),
    ("", "user add root:root's"),
    ("secret", "user add ann --interactive=false"),
    ("", "user add eve --new-user-password eve's"),
    ("", "user add bob --no-password"),
    ("", "user add ann:again"),
    ("", "user add :nobody"),
    ("", "role add app"),
    ("", "role add app"),
    ("", "role add root"),
    ("", "role list"),
    ("", "role get none"),
    ("", "role get root"),
    ("", "role grant-permission app readwrite a/ --prefix=true"),
    ("", "role grant-permission app read b"),
    ("", "role grant-permission app write c d"),
    ("", "role grant-permission app read x --from-key=true"),
    ("", "role grant-permission app read '' --prefix=true"),
    ("", "role grant-permission app dance b"),
    ("", "role grant-permission none read b"),
    ("", "role grant-permission app read e d"),
    ("", "role get app"),
    ("", "role get app -w json"),
    ("", "role revoke-permission app b"),
    ("", "role revoke-permission app b"),
    ("", "role revoke-permission app c d"),
    ("", "role get app"),
    ("", "user grant-role root root"),
    ("", "user grant-role ann app"),
    ("", "user grant-role ann none"),
    ("", "user grant-role none app"),
    ("", "user get ann"),
    ("", "user get ann --detail"),
    ("", "user get none"),
    ("", "user list -w json"),
    ("", "auth enable"),
    ("", "get a/1"),
    ("", "--user ann:wrong get a/1"),
    ("", "--user bob:x get a/1"),
    ("", "--user none:x get a/1"),
    ("", "--user ann:secret get a/1"),
    ("", "--user ann --password secret put a/1 w"),
    ("", "--user ann:secret put z w"),
    ("", "--user ann:secret get --prefix a/"),
    ("", "--user ann:secret get --prefix ''"),
    ("", "--user ann:secret del a/1 --prev-kv"),
    ("", "--user ann:secret user get ann"),
    ("", "--user ann:secret user get root"),
    ("", "--user ann:secret role get app"),
    ("", "--user ann:secret role get root"),
    ("", "--user ann:secret user list"),
    ("", "--user ann:secret auth status"),
    ("", "--user ann:secret auth disable"),
    ("", "--user ann:secret defrag"),
    ("", "--user ann:secret endpoint health"),
    ("", "--user root:root's auth status"),
    ("", "--user root:root's user list"),
    ("", "--user root:root's put z w"),
    ("", "--user root:root's get z"),
    (
        "other",
        "--user root:root's user passwd ann --interactive=false",
    ),
    ("", "--user ann:secret get a/1"),
    ("", "--user ann:other get a/1"),
    ("", "--user root:root's user revoke-role ann app"),
    ("", "--user root:root's user revoke-role ann app"),
    ("", "--user ann:other get a/1"),
    ("", "--user root:root's user delete root"),
    ("", "--user root:root's role delete root"),
    ("", "--user root:root's role delete app"),
    ("", "--user root:root's role delete app"),
    ("", "--user root:root's user delete ann"),
    ("", "--user ann:other get a/1"),
    ("", "--user root:root's auth disable"),
    ("", "--user root:root's get z"),
    ("", "get z"),
];

/// Runs all commands against both.
///
/// # Errors
/// etcdctl cannot be started.
pub async fn compare(report: &mut Report, reference: &str, subject: &str) -> Outcome<()> {
    let (Some(theirs), Some(ours)) = (Etcdctl::find(reference), Etcdctl::find(subject)) else {
        report.skip("etcdctl", "it is not installed (Debian: etcd-client)");
        return Ok(());
    };
    let mut same = 0;
    for (input, command) in COMMANDS {
        let words = command
            .split(' ')
            .map(|word| if word == "''" { "" } else { word });
        let words: Vec<&str> = words.collect();
        let their = plain(theirs.call(&words, input, LIMIT).await?);
        let our = plain(ours.call(&words, input, LIMIT).await?);
        if their == our {
            same += 1;
            continue;
        }
        let detail = format_args!("with etcd: {their}\n     with Synod: {our}").to_string();
        report.check(&format!("etcdctl {command}"), false, detail);
    }
    let all = COMMANDS.len();
    report.check(
        &format!("{all} commands of etcdctl"),
        same == all,
        format_args!("{same} equal"),
    );
    Ok(())
}

/// Exit code, output and error, without addresses, ids and what the client's log says of itself.
fn plain(called: Called) -> String {
    let Called {
        success,
        output,
        error,
    } = called;
    let error = error.lines().filter(|line| !line.starts_with('{'));
    let lines = output.lines().chain(error).map(plain_line);
    let mut lines: Vec<String> = lines.collect();
    // Commands that ask every member say the same of each.
    lines.dedup();
    format!("{success} {lines:?}")
}

fn plain_line(line: &str) -> String {
    let mut after_took = false;
    let words = line.split(' ').map(|word| {
        // Durations come after this word.
        let own = after_took && word != "=";
        after_took = word == "took" || (after_took && word == "=");
        if own { "N".into() } else { plain_word(word) }
    });
    words.collect::<Vec<String>>().join(" ")
}

/// Long numbers are ids, those after a colon are ports or terms.
fn plain_word(word: &str) -> String {
    let mut plain = String::new();
    let mut rest = word;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let digits = from
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(from.len());
        let own = digits > 9
            || before.ends_with("\"raft_term\":")
            || (before.ends_with(':') && !before.ends_with("\":"));
        plain.push_str(before);
        plain.push_str(if own { "N" } else { &from[..digits] });
        rest = &from[digits..];
    }
    plain + rest
}
