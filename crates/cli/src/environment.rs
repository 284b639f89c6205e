//! Environment variables that look like settings and are none: passed over in silence, a misspelt `SYNOD_CLUSTER` would found a cluster of its own.

use clap::{Command, CommandFactory};
use server::config::SETTINGS;
use std::collections::BTreeSet;

const PREFIX: &str = "SYNOD_";
/// What `synod lock` and its like tell the command they run, which may be a member.
const OF_JOBS: [&str; 3] = ["SYNOD_TOKEN", "SYNOD_LOCK", "SYNOD_SESSION"];

/// What to tell the operator of the variables of these names.
pub(crate) fn warnings(names: impl IntoIterator<Item = String>) -> Vec<String> {
    let known = known();
    let names: BTreeSet<String> = names.into_iter().collect();
    let services = services(&names);
    let strange = names.iter().filter(|name| {
        name.starts_with(PREFIX)
            && !known.contains(*name)
            && !services.iter().any(|service| is_of_service(name, service))
    });
    let told = strange.map(|name| {
        let next = match nearest(name, &known) {
            Some(near) => format!("did you mean {near}?"),
            None => "docs/operate/settings.md lists those there are".to_owned(),
        };
        format!("{name} has no effect, no setting is called so; {next}")
    });
    told.collect()
}

/// Every variable that some command reads.
fn known() -> BTreeSet<String> {
    fn read_by(command: &Command, known: &mut BTreeSet<String>) {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
        for command in command.get_subcommands() {
            read_by(command, known);
        }
    }
    let mut known: BTreeSet<String> = OF_JOBS.map(str::to_owned).into();
    known.extend(SETTINGS.iter().map(server::config::Setting::environment));
    read_by(&crate::Cli::command(), &mut known);
    known
}

/// Services of Kubernetes by the names their variables begin with. In every pod it sets some for each service of the namespace, and services for us are
/// called `synod` or `synod-client`: nobody wrote those variables.
fn services(names: &BTreeSet<String>) -> Vec<&str> {
    let hosts = names
        .iter()
        .filter_map(|name| name.strip_suffix("_SERVICE_HOST"));
    hosts.chain(["SYNOD"]).collect()
}

/// Whether Kubernetes sets the variable for the service: `_SERVICE_HOST`, `_SERVICE_PORT`, `_SERVICE_PORT_CLIENT`, `_PORT`, `_PORT_2379_TCP`,
/// `_PORT_2379_TCP_ADDR` and the like.
fn is_of_service(name: &str, service: &str) -> bool {
    let Some(rest) = name.strip_prefix(service) else {
        return false;
    };
    let of_port = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
    matches!(rest, "_SERVICE_HOST" | "_SERVICE_PORT" | "_PORT")
        || rest.starts_with("_SERVICE_PORT_")
        || rest.strip_prefix("_PORT_").is_some_and(of_port)
}

/// The known name that is most like this one, if there is one near: a third of its letters may differ, three at most.
fn nearest<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a String> {
    let near = ((name.len() - PREFIX.len()) / 3).clamp(1, 3);
    let distances = known.iter().map(|known| (distance(name, known), known));
    let (_, nearest) = distances.filter(|(far, _)| *far <= near).min()?;
    Some(nearest)
}

/// How many letters must be put in, left out or changed to make one text the other (Levenshtein's distance).
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (nth, against) in other.bytes().enumerate() {
            let changed = diagonal + usize::from(letter != against);
            diagonal = row[nth + 1];
            row[nth + 1] = changed.min(diagonal + 1).min(row[nth] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(names: &[&str]) -> Vec<String> {
        warnings(names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn a_variable_that_is_no_setting_is_told_with_the_one_that_was_meant() {
        for (name, meant) in [
            ("SYNOD_CLUSTR", "did you mean SYNOD_CLUSTER?"),
            (
                "SYNOD_STATE_BYTE_MAX",
                "did you mean SYNOD_STATE_BYTES_MAX?",
            ),
            ("SYNOD_CLIENT_ADDRESS", "did you mean SYNOD_CLIENT_ADDR?"),
            ("SYNOD_LOGLEVEL", "did you mean SYNOD_LOG_LEVEL?"),
            ("SYNOD_REPLICAS", "lists those there are"),
            ("SYNOD_", "lists those there are"),
        ] {
            let told = told(&[name]);
            assert!(
                told.len() == 1 && told[0].starts_with(name) && told[0].contains(meant),
                "{name}: {told:?}"
            );
        }
    }

    #[test]
    fn what_some_command_reads_is_not_told() {
        let all: Vec<String> = known().into_iter().collect();
        assert!(warnings(all.clone()).is_empty());
        for name in [
            "SYNOD_CLUSTER",
            "SYNOD_CONFIG",
            "SYNOD_LOG_FORMAT",
            "SYNOD_ENDPOINTS",
            "SYNOD_USER",
            "SYNOD_PASSWORD",
            "SYNOD_CACERT",
            "SYNOD_TOKEN",
        ] {
            assert!(all.iter().any(|known| known == name), "{name}");
        }
        assert!(told(&["ETCD_NAME", "PATH", "MY_SYNOD_CLUSTR"]).is_empty());
    }

    #[test]
    fn what_kubernetes_sets_for_a_service_is_not_told() {
        let of = |service: &str| -> Vec<String> {
            let parts = [
                "SERVICE_HOST",
                "SERVICE_PORT",
                "SERVICE_PORT_CLIENT",
                "PORT",
                "PORT_2379_TCP",
                "PORT_2379_TCP_PROTO",
                "PORT_2379_TCP_PORT",
                "PORT_2379_TCP_ADDR",
            ];
            parts.map(|part| format!("{service}_{part}")).into()
        };
        assert!(warnings(of("SYNOD")).is_empty());
        assert!(warnings(of("SYNOD_CLIENT")).is_empty());
        // Where there is no such service, somebody wrote it.
        assert_eq!(told(&["SYNOD_CLIENT_PORT", "SYNOD_PORT_CLIENT"]).len(), 2);
    }
}
