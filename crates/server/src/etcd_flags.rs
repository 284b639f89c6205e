//! etcd's flags and `ETCD_*` variables, for a start in etcd's place: what each one means here, or why it means nothing.
//!
//! A flag that changes what clients or operators get is translated or refused, never dropped in silence; one that tunes something this server does not have
//! is accepted with a warning that says why. A flag with the name of one of our settings is that setting, and has a row only for its `ETCD_` variable.

use crate::config::{ConfigError, SETTINGS, SWITCH, Setting};
use std::collections::BTreeMap;

/// A flag of etcd.
#[derive(Debug)]
pub struct EtcdFlag {
    /// Its name without dashes.
    pub name: &'static str,
    /// What it means here.
    pub meaning: Meaning,
}

/// What a flag of etcd means here.
#[derive(Debug, PartialEq, Eq)]
pub enum Meaning {
    /// The setting of this name, with the value rewritten.
    Is(&'static str, Form),
    /// Nothing; a warning says why, unless the value is the one given here, which asks for what is so anyway.
    Nothing {
        /// The value that needs no warning; empty: each gets one.
        anyway: &'static str,
        /// Why it means nothing.
        why: &'static str,
    },
    /// To go on without it would be wrong: the start is refused, unless the value is the one given here.
    Refused {
        /// The value that changes nothing.
        anyway: &'static str,
        /// Why, and what to do instead.
        why: &'static str,
    },
}

/// How a value is rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Same,
    /// `http://host:port` becomes `host:port`; of several the first counts.
    Url,
    /// Several of them do, and all count.
    Addresses,
    /// Several URLs, as they are.
    Urls,
    /// `name=http://host:port,...` becomes `name=host:port,...`.
    Cluster,
    /// A bare number gets this unit.
    Number(&'static str),
    /// Bytes, where 0 means the default and less than 0 no limit.
    Quota,
}

use Form::{Addresses, Cluster, Number, Quota, Same, Url, Urls};

const fn is(name: &'static str, setting: &'static str, form: Form) -> EtcdFlag {
    EtcdFlag {
        name,
        meaning: Meaning::Is(setting, form),
    }
}

const fn nothing(name: &'static str, anyway: &'static str, why: &'static str) -> EtcdFlag {
    EtcdFlag {
        name,
        meaning: Meaning::Nothing { anyway, why },
    }
}

const fn refused(name: &'static str, anyway: &'static str, why: &'static str) -> EtcdFlag {
    EtcdFlag {
        name,
        meaning: Meaning::Refused { anyway, why },
    }
}

const ALWAYS: &str = "it is always so here";
const NO_BACKEND: &str =
    "there is no backend file to tune: the state is in memory and in snapshots";
const NO_LOG_LIMITS: &str = "old files of the log and old snapshots go by themselves";
const GRPC: &str = "connections have bounds of their own here";
const NO_DISCOVERY: &str = "there is no discovery service; list the members with --initial-cluster";
const OWN_GATEWAY: &str = "the gateway needs no certificate of its own to reach its member";
const HASHES: &str = "the states of the members are compared all the time here";
const LEASES: &str = "what is left of a lease is in the replicated state here";
const SANS: &str = "which names a peer may have is said by --peer-cert-allowed-cn and --peer-cert-allowed-hostname";
const LOGGING: &str = "the log goes to stderr";

/// Every flag of etcd 3.6 that is known here.
pub const ETCD_FLAGS: &[EtcdFlag] = &[
    is("name", "name", Same),
    is("data-dir", "data-dir", Same),
    is("listen-client-urls", "client-addr", Urls),
    is("listen-peer-urls", "peer-addr", Addresses),
    is("advertise-client-urls", "advertise-client-addr", Urls),
    is("initial-advertise-peer-urls", "advertise-peer-addr", Url),
    is("initial-cluster", "cluster", Cluster),
    is("initial-cluster-state", "cluster-state", Same),
    nothing(
        "initial-cluster-token",
        "",
        "a cluster's id is drawn at random here, so no two take each other for one",
    ),
    is("heartbeat-interval", "heartbeat-interval", Number("ms")),
    is("election-timeout", "election-timeout", Number("ms")),
    is("quota-backend-bytes", "state-bytes-max", Quota),
    is("max-request-bytes", "request-bytes-max", Same),
    is("snapshot-catchup-entries", "snapshot-keep-entries", Same),
    is(
        "experimental-snapshot-catchup-entries",
        "snapshot-keep-entries",
        Same,
    ),
    nothing(
        "snapshot-count",
        "10000",
        "snapshots are taken by bytes of log, not by entries; see --snapshot-log-bytes",
    ),
    nothing("wal-dir", "", "the log lives in --data-dir"),
    nothing("max-snapshots", "5", NO_LOG_LIMITS),
    nothing("max-wals", "5", NO_LOG_LIMITS),
    nothing(
        "initial-election-tick-advance",
        "true",
        "an election begins after --election-timeout, at the start as well",
    ),
    nothing(
        "strict-reconfig-check",
        "true",
        "changes of members that would lose the quorum are always refused here",
    ),
    nothing("pre-vote", "true", ALWAYS),
    nothing(
        "max-learners",
        "1",
        "one learner at a time is admitted through etcd's calls; `synod member add` has no such limit",
    ),
    is(
        "auto-compaction-retention",
        "auto-compaction-retention",
        Same,
    ),
    is("auto-compaction-mode", "auto-compaction-mode", Same),
    is("max-txn-ops", "txn-operations-max", Same),
    is("max-concurrent-streams", "concurrent-streams-max", Same),
    nothing("grpc-keepalive-min-time", "5s", GRPC),
    nothing("grpc-keepalive-interval", "2h", GRPC),
    nothing("grpc-keepalive-timeout", "20s", GRPC),
    nothing("raft-read-timeout", "5s", GRPC),
    nothing("raft-write-timeout", "5s", GRPC),
    nothing("socket-reuse-port", "false", "a port belongs to one member"),
    nothing("socket-reuse-address", "false", ALWAYS),
    nothing("enable-grpc-gateway", "true", ALWAYS),
    nothing("enable-v2", "false", "version 2 of the API is not there"),
    nothing("v2-deprecation", "", "version 2 of the API is not there"),
    is("cors", "cors", Same),
    nothing(
        "host-whitelist",
        "*",
        "which hosts a request may name is decided by the address it came to",
    ),
    is("auth-token", "auth-token", Same),
    is("auth-token-ttl", "auth-token-ttl", Same),
    is("bcrypt-cost", "bcrypt-cost", Same),
    nothing(
        "listen-client-http-urls",
        "",
        "HTTP and gRPC share the client port",
    ),
    is("listen-metrics-urls", "metrics-addr", Urls),
    nothing("metrics", "basic", "all metrics are always there"),
    nothing("enable-pprof", "false", "there are no Go profiles to show"),
    nothing("memory-mlock", "false", NO_BACKEND),
    nothing("experimental-memory-mlock", "false", NO_BACKEND),
    nothing("backend-bbolt-freelist-type", "map", NO_BACKEND),
    nothing("backend-batch-interval", "", NO_BACKEND),
    nothing("backend-batch-limit", "0", NO_BACKEND),
    nothing("bootstrap-defrag-threshold-megabytes", "0", NO_BACKEND),
    nothing(
        "experimental-bootstrap-defrag-threshold-megabytes",
        "0",
        NO_BACKEND,
    ),
    nothing("stop-grpc-service-on-defrag", "false", NO_BACKEND),
    nothing(
        "experimental-stop-grpc-service-on-defrag",
        "false",
        NO_BACKEND,
    ),
    nothing(
        "experimental-txn-mode-write-with-shared-buffer",
        "true",
        NO_BACKEND,
    ),
    nothing(
        "compaction-batch-limit",
        "1000",
        "compaction works in short slices by itself",
    ),
    nothing(
        "experimental-compaction-batch-limit",
        "1000",
        "compaction works in short slices by itself",
    ),
    nothing(
        "compaction-sleep-interval",
        "",
        "compaction works in short slices by itself",
    ),
    nothing(
        "experimental-compaction-sleep-interval",
        "",
        "compaction works in short slices by itself",
    ),
    nothing("initial-corrupt-check", "false", HASHES),
    nothing("experimental-initial-corrupt-check", "false", HASHES),
    nothing("corrupt-check-time", "0s", HASHES),
    nothing("experimental-corrupt-check-time", "0s", HASHES),
    nothing("compact-hash-check-enabled", "false", HASHES),
    nothing("experimental-compact-hash-check-enabled", "false", HASHES),
    nothing("compact-hash-check-time", "1m", HASHES),
    nothing("experimental-compact-hash-check-time", "1m", HASHES),
    nothing("experimental-enable-lease-checkpoint", "false", LEASES),
    nothing(
        "experimental-enable-lease-checkpoint-persist",
        "false",
        LEASES,
    ),
    nothing(
        "watch-progress-notify-interval",
        "10m",
        "the interval is fixed",
    ),
    nothing(
        "experimental-watch-progress-notify-interval",
        "10m",
        "the interval is fixed",
    ),
    nothing(
        "warning-apply-duration",
        "100ms",
        "slow work shows in the metrics",
    ),
    nothing(
        "experimental-warning-apply-duration",
        "100ms",
        "slow work shows in the metrics",
    ),
    nothing(
        "warning-unary-request-duration",
        "300ms",
        "slow work shows in the metrics",
    ),
    nothing(
        "experimental-warning-unary-request-duration",
        "300ms",
        "slow work shows in the metrics",
    ),
    nothing(
        "downgrade-check-time",
        "5s",
        "a downgrade is asked for, not looked for",
    ),
    nothing(
        "experimental-downgrade-check-time",
        "5s",
        "a downgrade is asked for, not looked for",
    ),
    nothing("feature-gates", "", "there are no such gates here"),
    is(
        "enable-distributed-tracing",
        "enable-distributed-tracing",
        Same,
    ),
    is(
        "distributed-tracing-address",
        "distributed-tracing-address",
        Same,
    ),
    is(
        "distributed-tracing-service-name",
        "distributed-tracing-service-name",
        Same,
    ),
    is(
        "distributed-tracing-instance-id",
        "distributed-tracing-instance-id",
        Same,
    ),
    is(
        "distributed-tracing-sampling-rate",
        "distributed-tracing-sampling-rate",
        Same,
    ),
    is(
        "experimental-enable-distributed-tracing",
        "enable-distributed-tracing",
        Same,
    ),
    is(
        "experimental-distributed-tracing-address",
        "distributed-tracing-address",
        Same,
    ),
    is(
        "experimental-distributed-tracing-service-name",
        "distributed-tracing-service-name",
        Same,
    ),
    is(
        "experimental-distributed-tracing-instance-id",
        "distributed-tracing-instance-id",
        Same,
    ),
    is(
        "experimental-distributed-tracing-sampling-rate",
        "distributed-tracing-sampling-rate",
        Same,
    ),
    nothing("logger", "zap", LOGGING),
    nothing("log-outputs", "default", LOGGING),
    nothing("enable-log-rotation", "false", LOGGING),
    nothing("log-rotation-config-json", "", LOGGING),
    nothing(
        "unsafe-no-fsync",
        "false",
        "what is acknowledged is always durable here",
    ),
    refused(
        "force-new-cluster",
        "false",
        "one member cannot be made the whole cluster that way; restore a snapshot of the keys into a new data directory",
    ),
    refused(
        "config-file",
        "",
        "etcd's configuration file is not read; pass its settings as flags, or write them for --config",
    ),
    refused("discovery", "", NO_DISCOVERY),
    refused("discovery-token", "", NO_DISCOVERY),
    refused("discovery-endpoints", "", NO_DISCOVERY),
    refused("discovery-srv", "", NO_DISCOVERY),
    refused("discovery-srv-name", "", NO_DISCOVERY),
    nothing("discovery-dial-timeout", "2s", NO_DISCOVERY),
    nothing("discovery-request-timeout", "5s", NO_DISCOVERY),
    nothing("discovery-keepalive-time", "2s", NO_DISCOVERY),
    nothing("discovery-keepalive-timeout", "6s", NO_DISCOVERY),
    nothing("discovery-insecure-transport", "true", NO_DISCOVERY),
    nothing("discovery-insecure-skip-tls-verify", "false", NO_DISCOVERY),
    nothing("discovery-cert", "", NO_DISCOVERY),
    nothing("discovery-key", "", NO_DISCOVERY),
    nothing("discovery-cacert", "", NO_DISCOVERY),
    nothing("discovery-user", "", NO_DISCOVERY),
    nothing("discovery-password", "", NO_DISCOVERY),
    nothing("discovery-fallback", "exit", NO_DISCOVERY),
    nothing("discovery-proxy", "", NO_DISCOVERY),
    is("cert-file", "cert-file", Same),
    is("key-file", "key-file", Same),
    is("client-cert-auth", "client-cert-auth", Same),
    nothing("client-cert-file", "", OWN_GATEWAY),
    nothing("client-key-file", "", OWN_GATEWAY),
    is("client-crl-file", "client-crl-file", Same),
    is(
        "client-cert-allowed-hostname",
        "client-cert-allowed-hostname",
        Same,
    ),
    is("trusted-ca-file", "trusted-ca-file", Same),
    is("auto-tls", "auto-tls", Same),
    is("peer-cert-file", "peer-cert-file", Same),
    is("peer-key-file", "peer-key-file", Same),
    is("peer-client-cert-auth", "peer-client-cert-auth", Same),
    is("peer-client-cert-file", "peer-client-cert-file", Same),
    is("peer-client-key-file", "peer-client-key-file", Same),
    is("peer-trusted-ca-file", "peer-trusted-ca-file", Same),
    is("peer-cert-allowed-cn", "peer-cert-allowed-cn", Same),
    is(
        "peer-cert-allowed-hostname",
        "peer-cert-allowed-hostname",
        Same,
    ),
    is("peer-auto-tls", "peer-auto-tls", Same),
    is("peer-crl-file", "peer-crl-file", Same),
    nothing(
        "self-signed-cert-validity",
        "1",
        "certificates made by this server have a fixed life",
    ),
    nothing("peer-skip-client-san-verification", "false", SANS),
    nothing(
        "experimental-peer-skip-client-san-verification",
        "false",
        SANS,
    ),
    is("cipher-suites", "cipher-suites", Same),
    is("tls-min-version", "tls-min-version", Same),
    is("tls-max-version", "tls-max-version", Same),
];

/// Variables that begin like etcd's and are read elsewhere, or mean nothing to any server.
const OTHER_VARIABLES: &[&str] = &["ETCD_LOG_LEVEL", "ETCD_LOG_FORMAT", "ETCD_UNSUPPORTED_ARCH"];

impl EtcdFlag {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("ETCD_{}", self.name.replace('-', "_").to_uppercase())
    }

    /// It is one of etcd's switches, which stand alone or with `=true` or `=false`.
    pub fn is_switch(&self) -> bool {
        if let Meaning::Is(name, _) = self.meaning {
            let switch = |setting: &&Setting| setting.value == SWITCH;
            let mut settings = SETTINGS.iter().filter(switch);
            return settings.any(|setting| setting.name == name);
        }
        matches!(
            self.meaning,
            Meaning::Nothing {
                anyway: "true" | "false",
                ..
            } | Meaning::Refused {
                anyway: "true" | "false",
                ..
            }
        )
    }

    /// It is a flag beside those of our settings: the others are settings already.
    pub fn is_beside_settings(&self) -> bool {
        SETTINGS.iter().all(|setting| setting.name != self.name)
    }
}

/// What etcd's flags or variables come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Translated {
    /// Setting, value, and how to name it to the one who wrote it.
    pub(crate) settings: Vec<(&'static str, String, String)>,
    /// What to tell the operator.
    pub(crate) warnings: Vec<String>,
}

/// Translates what was written, by name.
///
/// # Errors
/// A value that cannot be understood, or a flag that must not be passed over.
pub(crate) fn translate(
    written: &BTreeMap<&'static str, String>,
    subject: impl Fn(&EtcdFlag) -> String,
) -> Result<Translated, ConfigError> {
    let mut translated = Translated::default();
    for flag in ETCD_FLAGS {
        let Some(value) = written.get(flag.name) else {
            continue;
        };
        let name = subject(flag);
        // A setting of the same name, should there be one by now, is what the flag says.
        let own = SETTINGS.iter().find(|setting| setting.name == flag.name);
        match (&flag.meaning, own) {
            (Meaning::Is(setting, form), _) => {
                if let Some(value) = rewrite(*form, value, &name, &mut translated.warnings)? {
                    translated.settings.push((setting, value, name));
                }
            }
            (_, Some(setting)) => translated
                .settings
                .push((setting.name, value.clone(), name)),
            (Meaning::Nothing { anyway, .. } | Meaning::Refused { anyway, .. }, None)
                if value == anyway => {}
            (Meaning::Nothing { why, .. }, None) => translated
                .warnings
                .push(format!("{name} has no effect: {why}")),
            (Meaning::Refused { why, .. }, None) => {
                return Err(ConfigError(format!("{name}: {why}")));
            }
        }
    }
    // etcd's name for a member that was given none, and which its lists therefore carry.
    if written.contains_key("initial-cluster") && !written.contains_key("name") {
        let list = &written["initial-cluster"];
        if list.split(',').any(|part| part.starts_with("default=")) {
            translated
                .settings
                .push(("name", "default".into(), "--name".into()));
        }
    }
    Ok(translated)
}

fn rewrite(
    form: Form,
    value: &str,
    name: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<String>, ConfigError> {
    Ok(Some(match form {
        Same => value.to_owned(),
        Number(unit) if value.bytes().all(|byte| byte.is_ascii_digit()) => format!("{value}{unit}"),
        Number(_) => value.to_owned(),
        Quota => match value.parse::<i64>() {
            Ok(0) => return Ok(None),
            Ok(less) if less < 0 => "64TiB".into(),
            Ok(_) | Err(_) => value.to_owned(),
        },
        Addresses => {
            let addresses = value.split(',').map(|url| host_and_port(url, name));
            addresses.collect::<Result<Vec<_>, _>>()?.join(",")
        }
        Urls => {
            for url in value.split(',') {
                host_and_port(url, name)?;
            }
            value.to_owned()
        }
        Url => {
            let mut addresses = value.split(',').map(|url| host_and_port(url, name));
            let first = addresses.next().expect("a text has a first part")?;
            for further in addresses {
                warnings.push(format!("{name}: {} is not used, one address is", further?));
            }
            first
        }
        Cluster => {
            let mut members: Vec<(&str, String)> = Vec::new();
            for part in value.split(',').filter(|part| !part.trim().is_empty()) {
                let (member, url) = part.trim().split_once('=').ok_or_else(|| {
                    ConfigError(format!(
                        "{name}: {part:?} is not NAME=URL; write it as n1=http://10.0.0.1:2380"
                    ))
                })?;
                let address = host_and_port(url, name)?;
                if members.iter().any(|(known, _)| *known == member) {
                    warnings.push(format!(
                        "{name}: {address} is not used, one address of {member} is"
                    ));
                } else {
                    members.push((member, address));
                }
            }
            let members: Vec<String> = members
                .into_iter()
                .map(|(member, address)| format!("{member}={address}"))
                .collect();
            members.join(",")
        }
    }))
}

/// The `host:port` of a URL as etcd takes them.
fn host_and_port(url: &str, name: &str) -> Result<String, ConfigError> {
    let url = url.trim();
    let refuse = |why: &str| Err(ConfigError(format!("{name}: {url:?} {why}")));
    let rest = match url.split_once("://") {
        Some(("http" | "https", rest)) => rest,
        Some((scheme, _)) => {
            return refuse(&format!(
                "has scheme {scheme}, which is not served; write http://HOST:PORT"
            ));
        }
        None => return refuse("is no URL; write http://HOST:PORT"),
    };
    if rest.contains(['/', '?', '#', '@']) {
        return refuse("has more than host and port; write http://HOST:PORT");
    }
    if !rest.contains(':') {
        return refuse("has no port; write http://HOST:PORT");
    }
    Ok(rest.to_owned())
}

/// Variables that look like etcd's and are none.
pub(crate) fn unknown_variables(names: impl Iterator<Item = String>) -> Vec<String> {
    let unknown = |name: &String| {
        name.starts_with("ETCD_")
            && !OTHER_VARIABLES.contains(&name.as_str())
            && ETCD_FLAGS.iter().all(|flag| flag.variable() != *name)
    };
    names
        .filter(unknown)
        .map(|name| format!("{name} is no setting of etcd that is known here"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(pairs: &[(&'static str, &str)]) -> Result<Translated, String> {
        let written = pairs
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        translate(&written, |flag| format!("--{}", flag.name)).map_err(|error| error.0)
    }

    #[test]
    fn each_row_has_its_own_name_and_an_existing_setting() {
        for (nth, flag) in ETCD_FLAGS.iter().enumerate() {
            assert!(
                ETCD_FLAGS[..nth]
                    .iter()
                    .all(|other| other.name != flag.name),
                "{} has two rows",
                flag.name
            );
            if let Meaning::Is(setting, _) = flag.meaning {
                assert!(
                    SETTINGS.iter().any(|known| known.name == setting),
                    "{} means {setting}, which is no setting",
                    flag.name
                );
            }
        }
    }

    #[test]
    fn urls_become_addresses_and_lists_keep_their_names() {
        let got = translated(&[
            (
                "listen-client-urls",
                "http://10.0.0.1:2379,http://127.0.0.1:2379",
            ),
            (
                "listen-peer-urls",
                "http://10.0.0.1:2380,http://127.0.0.1:2380",
            ),
            (
                "initial-cluster",
                "m2=http://h2:2380,m2=http://g2:2380,m3=https://[::1]:2380",
            ),
            ("election-timeout", "1000"),
            ("quota-backend-bytes", "0"),
        ])
        .expect("all is good");
        let settings: Vec<_> = got
            .settings
            .iter()
            .map(|(name, value, _)| (*name, value.as_str()))
            .collect();
        assert_eq!(
            settings,
            [
                ("client-addr", "http://10.0.0.1:2379,http://127.0.0.1:2379"),
                ("peer-addr", "10.0.0.1:2380,127.0.0.1:2380"),
                ("cluster", "m2=h2:2380,m3=[::1]:2380"),
                ("election-timeout", "1000ms"),
            ]
        );
        assert_eq!(got.warnings.len(), 1, "{:?}", got.warnings);
        assert!(got.warnings[0].contains("g2:2380 is not used"));
    }

    #[test]
    fn what_means_nothing_is_said_and_what_must_not_be_passed_over_is_refused() {
        let got = translated(&[("max-wals", "9"), ("pre-vote", "true")]).expect("all is good");
        assert_eq!(got.settings, []);
        assert_eq!(got.warnings.len(), 1, "{:?}", got.warnings);
        assert!(got.warnings[0].starts_with("--max-wals has no effect: "));
        for (name, value, part) in [
            ("force-new-cluster", "true", "restore a snapshot"),
            ("listen-client-urls", "unix:///run/s", "scheme unix"),
            ("listen-client-urls", "10.0.0.1:2379", "no URL"),
            ("listen-peer-urls", "http://h", "no port"),
            (
                "listen-peer-urls",
                "http://h:1/path",
                "more than host and port",
            ),
            ("initial-cluster", "http://h:1", "not NAME=URL"),
        ] {
            let text = translated(&[(name, value)]).expect_err(value);
            assert!(
                text.contains(part) && text.starts_with(&format!("--{name}")),
                "{text}"
            );
        }
    }

    #[test]
    fn a_member_without_a_name_has_the_one_etcd_gives_it() {
        let got = translated(&[("initial-cluster", "default=http://localhost:2380")])
            .expect("all is good");
        assert!(
            got.settings
                .contains(&("name", "default".into(), "--name".into()))
        );
    }

    #[test]
    fn variables_that_are_none_of_etcds_are_told() {
        let names = [
            "ETCD_NAME",
            "ETCD_PORT",
            "ETCDCTL_API",
            "SYNOD_NAME",
            "ETCD_LOG_LEVEL",
        ];
        let told = unknown_variables(names.iter().map(|name| (*name).to_owned()));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("ETCD_PORT "));
    }
}
