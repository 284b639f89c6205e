//! The settings of a member, read from flags, environment and file by the one table of them.
//!
//! Precedence: flags, then environment (`SYNOD_` and the name in capitals), then the file, then the default.

pub use crate::address::{Address, Scheme, check_address, parse_cluster};
use crate::auth::{AuthSettings, TokenSettings};
pub use crate::etcd_flags::{ETCD_FLAGS, EtcdFlag, Form, Meaning};
use crate::etcd_flags::{translate, unknown_variables};
pub use crate::setting::{SETTINGS, SWITCH, Setting};
pub use crate::tls::{Port, PortTls};
use crate::trace::SAMPLED_OF;
pub use crate::trace::TraceSettings;
pub use crate::units::{parse_bytes, parse_duration};
use crate::units::{show_bytes, show_duration};
use replica::AutoCompaction;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Times for which history may be kept.
const RETENTIONS: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(366 * 24 * 3600);

/// The settings of one member, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its directory.
    pub data_dir: PathBuf,
    /// Where it listens for clients; never empty.
    pub client_addrs: Vec<Address>,
    /// Where it shows health and metrics beside the client ports.
    pub metrics_addrs: Vec<Address>,
    /// Where it listens for members, as `host:port`; never empty.
    pub peer_addrs: Vec<String>,
    /// Where clients reach it; never empty.
    pub advertise_client_addrs: Vec<Address>,
    /// Where members reach it.
    pub advertise_peer_addr: String,
    /// The members to begin with, by name, this one included.
    pub cluster: BTreeMap<String, String>,
    /// The cluster exists already: an empty member only joins, it never founds one.
    pub cluster_exists: bool,
    /// Time between heartbeats.
    pub heartbeat_interval: Duration,
    /// Shortest silence before an election; the longest is twice that.
    pub election_timeout: Duration,
    /// Preference in elections: a higher one is preferred.
    pub leader_priority: u32,
    /// See the setting.
    pub state_bytes_max: u64,
    /// See the setting.
    pub state_bytes_warn: u64,
    /// See the settings.
    pub auto_compaction: AutoCompaction,
    /// See the setting.
    pub request_bytes_max: u64,
    /// See the setting.
    pub txn_operations_max: usize,
    /// See the setting.
    pub concurrent_streams_max: u32,
    /// See the setting.
    pub connections_max: usize,
    /// See the setting.
    pub watches_max: usize,
    /// See the setting.
    pub stream_watches_max: usize,
    /// See the setting.
    pub leases_max: usize,
    /// See the setting.
    pub snapshot_log_bytes: u64,
    /// See the setting.
    pub snapshot_keep_entries: u64,
    /// See the setting.
    pub log_segment_bytes: u64,
    /// See the setting.
    pub disk_low_water_bytes: u64,
    /// How long a graceful stop may take.
    pub stop_timeout: Duration,
    /// TLS for clients.
    pub client_tls: PortTls,
    /// TLS between members.
    pub peer_tls: PortTls,
    /// Origins of web pages that may talk to it; `*`: all.
    pub cors: Vec<String>,
    /// How users are authenticated.
    pub auth: AuthSettings,
    /// Where traces of requests go; `None`: there are none.
    pub traces: Option<TraceSettings>,
}

impl Config {
    /// How a port speaks TLS.
    pub(crate) fn tls(&self, port: Port) -> &PortTls {
        match port {
            Port::Client => &self.client_tls,
            Port::Peer => &self.peer_tls,
        }
    }

    /// Where clients reach this member, as the others pass it on.
    pub(crate) fn client_addresses_told(&self) -> Vec<String> {
        let certificates = self.client_tls != PortTls::Off;
        let all = self.advertise_client_addrs.iter();
        all.map(|address| address.told(certificates)).collect()
    }

    /// Puts the ports the system chose in the place of port 0.
    pub(crate) fn bound(&mut self, clients: &[SocketAddr], peer: SocketAddr) {
        for (address, bound) in self.advertise_client_addrs.iter_mut().zip(clients) {
            address.bound(*bound);
        }
        if self.advertise_peer_addr.ends_with(":0") {
            self.advertise_peer_addr = peer.to_string();
            self.cluster.insert(self.name.clone(), peer.to_string());
        }
    }
}

/// Why settings were refused: subject, value, limit and next step, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    Flag,
    Environment,
    File,
    /// A flag or variable of etcd's, by its name.
    Etcd(String),
}

/// Values as they were written, before they are understood.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Option<Source>)>,
    warnings: Vec<String>,
}

impl Settings {
    /// Takes values from a TOML file. Call this first, then [`Settings::environment`], then [`Settings::flags`]: later ones win.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or has an unknown key.
    pub fn file(mut self, path: &Path) -> Result<Settings, ConfigError> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("config: {shown} cannot be read: {error}")))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error| ConfigError(format!("config: {shown} is no TOML: {error}")))?;
        for (key, value) in table {
            let setting = SETTINGS
                .iter()
                .find(|setting| setting.name == key)
                .ok_or_else(|| unknown(&key, path))?;
            let value = plain(&value).ok_or_else(|| {
                ConfigError(format!(
                    "{key} in {shown}: must be {}, not {value}",
                    setting.value
                ))
            })?;
            self.values
                .insert(setting.name, (value, Some(Source::File)));
        }
        Ok(self)
    }

    /// Takes values from the environment, by a function that reads a variable.
    pub fn environment(mut self, variable: impl Fn(&str) -> Option<String>) -> Settings {
        for setting in SETTINGS {
            if let Some(value) = variable(&setting.environment()) {
                self.values
                    .insert(setting.name, (value, Some(Source::Environment)));
            }
        }
        self
    }

    /// Takes values from etcd's variables, by a function that reads one. Call it before [`Settings::environment`].
    ///
    /// # Errors
    /// A value that cannot be understood, or that must not be passed over.
    pub fn etcd_environment(
        self,
        variable: impl Fn(&str) -> Option<String>,
        names: impl Iterator<Item = String>,
    ) -> Result<Settings, ConfigError> {
        let written = ETCD_FLAGS
            .iter()
            .filter_map(|flag| Some((flag.name, variable(&flag.variable())?)))
            .filter(|(_, value)| !value.is_empty())
            .collect();
        let mut settings = self.etcd(&written, EtcdFlag::variable)?;
        settings.warnings.extend(unknown_variables(names));
        Ok(settings)
    }

    /// Takes values from etcd's flags, by name. Call it before [`Settings::flags`].
    ///
    /// # Errors
    /// A value that cannot be understood, or that must not be passed over.
    pub fn etcd_flags(
        self,
        flags: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Settings, ConfigError> {
        let written = flags.into_iter().collect();
        self.etcd(&written, |flag| format!("--{}", flag.name))
    }

    fn etcd(
        mut self,
        written: &BTreeMap<&'static str, String>,
        subject: impl Fn(&EtcdFlag) -> String,
    ) -> Result<Settings, ConfigError> {
        let translated = translate(written, subject)?;
        for (name, value, subject) in translated.settings {
            self.values
                .insert(name, (value, Some(Source::Etcd(subject))));
        }
        self.warnings.extend(translated.warnings);
        Ok(self)
    }

    /// What the operator should know of settings that were understood and have no effect.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Takes values from flags, by name.
    ///
    /// # Panics
    /// On a name that is no setting.
    pub fn flags(mut self, flags: impl IntoIterator<Item = (String, String)>) -> Settings {
        for (name, value) in flags {
            let setting = SETTINGS.iter().find(|setting| setting.name == name);
            let setting = setting.unwrap_or_else(|| panic!("no setting is named {name}"));
            self.values
                .insert(setting.name, (value, Some(Source::Flag)));
        }
        self
    }

    /// What was written for a setting.
    pub(crate) fn written(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|(value, _)| value.as_str())
    }

    /// The text to understand: what was written, or the default.
    pub(crate) fn text<'a>(&'a self, name: &str) -> &'a str {
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .expect("only settings of the table are read");
        self.written(name).unwrap_or(setting.default)
    }

    /// How to name a setting to the one who wrote it.
    pub(crate) fn subject(&self, name: &str) -> String {
        let setting = SETTINGS
            .iter()
            .find(|setting| setting.name == name)
            .expect("only settings of the table are read");
        match self.values.get(name) {
            Some((_, Some(Source::Environment))) => setting.environment(),
            Some((_, Some(Source::File))) => format!("{name} in the config file"),
            Some((_, Some(Source::Etcd(written)))) => written.clone(),
            Some((_, Some(Source::Flag) | None)) | None => format!("--{name}"),
        }
    }

    pub(crate) fn refuse<T>(&self, name: &str, why: impl fmt::Display) -> Result<T, ConfigError> {
        Err(ConfigError(format!("{}: {why}", self.subject(name))))
    }

    /// Understands and checks everything.
    ///
    /// # Errors
    /// The first setting that is wrong, with what to write instead.
    pub fn resolve(&self) -> Result<Config, ConfigError> {
        let name = self.text("name").to_owned();
        if name.is_empty()
            || !name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return self.refuse(
                "name",
                format_args!(
                    "{name:?} is no name; use letters, digits, '-', '_' and '.', such as n1"
                ),
            );
        }
        let client_tls = self.tls(Port::Client)?;
        let certificates = client_tls != PortTls::Off;
        let client_addrs = self.listened("client-addr", certificates)?;
        let metrics_addrs = match self.written("metrics-addr") {
            Some(_) => self.listened("metrics-addr", certificates)?,
            None => Vec::new(),
        };
        let advertise_client_addrs = self.advertised_to_clients(&client_addrs)?;
        let peer_addrs = self.peer_addresses()?;
        let listened = |addresses: &[Address]| -> Vec<String> {
            addresses.iter().map(|address| address.at.clone()).collect()
        };
        let (clients, pages) = (listened(&client_addrs), listened(&metrics_addrs));
        self.apart(("peer-addr", &peer_addrs), ("client-addr", &clients))?;
        self.apart(("metrics-addr", &pages), ("client-addr", &clients))?;
        self.apart(("metrics-addr", &pages), ("peer-addr", &peer_addrs))?;
        let (cluster, advertise_peer_addr) = self.cluster(&name, &peer_addrs[0])?;
        let heartbeat_interval = self.duration(
            "heartbeat-interval",
            Duration::from_millis(10),
            Duration::from_secs(10),
        )?;
        let election_timeout = self.duration(
            "election-timeout",
            Duration::from_millis(30),
            Duration::from_secs(100),
        )?;
        if election_timeout < 3 * heartbeat_interval {
            let least = (3 * heartbeat_interval).as_millis();
            let election = election_timeout.as_millis();
            return self
                .refuse("election-timeout", format_args!("{election} ms is too short, at least 3 heartbeats ({least} ms) are needed; pass --election-timeout {least}ms"));
        }
        let state_bytes_max = self.state_bytes_max()?;
        Ok(Config {
            name,
            data_dir: self.directory()?,
            client_addrs,
            metrics_addrs,
            peer_addrs,
            advertise_client_addrs,
            advertise_peer_addr,
            cluster,
            cluster_exists: self.cluster_exists()?,
            heartbeat_interval,
            election_timeout,
            leader_priority: self.count("leader-priority", 0, 1000)? as u32,
            state_bytes_max,
            state_bytes_warn: self.state_bytes_warn(state_bytes_max)?,
            auto_compaction: self.auto_compaction()?,
            request_bytes_max: self.bytes("request-bytes-max", 1 << 10, 8 << 20)?,
            txn_operations_max: self.count("txn-operations-max", 1, 1_000_000)? as usize,
            concurrent_streams_max: self.count("concurrent-streams-max", 1, u32::MAX.into())?
                as u32,
            connections_max: self.count("connections-max", 1, 10_000_000)? as usize,
            watches_max: self.count("watches-max", 1, 100_000_000)? as usize,
            stream_watches_max: self.count("stream-watches-max", 1, 100_000_000)? as usize,
            leases_max: self.count("leases-max", 1, 100_000_000)? as usize,
            snapshot_log_bytes: self.bytes("snapshot-log-bytes", 1 << 20, 1 << 40)?,
            snapshot_keep_entries: self.count("snapshot-keep-entries", 0, 10_000_000)?,
            log_segment_bytes: self.bytes("log-segment-bytes", 1 << 20, 1 << 30)?,
            disk_low_water_bytes: self.bytes("disk-low-water-bytes", 0, 1 << 46)?,
            stop_timeout: self.duration(
                "stop-timeout",
                Duration::from_millis(100),
                Duration::from_secs(600),
            )?,
            client_tls,
            peer_tls: self.tls(Port::Peer)?,
            cors: self.parts("cors").map(str::to_owned).collect(),
            auth: self.auth()?,
            traces: self.traces(self.text("name"))?,
        })
    }

    fn traces(&self, member: &str) -> Result<Option<TraceSettings>, ConfigError> {
        if !self.switch("enable-distributed-tracing")? {
            return Ok(None);
        }
        let collector = self.text("distributed-tracing-address");
        if let Err(why) = check_address(collector, false) {
            return self.refuse("distributed-tracing-address", why);
        }
        let instance = self.written("distributed-tracing-instance-id");
        Ok(Some(TraceSettings {
            collector: collector.to_owned(),
            service: self.text("distributed-tracing-service-name").to_owned(),
            instance: instance.unwrap_or(member).to_owned(),
            samples_per_million: self.count("distributed-tracing-sampling-rate", 0, SAMPLED_OF)?,
        }))
    }

    fn auth(&self) -> Result<AuthSettings, ConfigError> {
        let token = match TokenSettings::parse(self.text("auth-token")) {
            Ok(token) => token,
            Err(why) => return self.refuse("auth-token", why),
        };
        let text = self.text("auth-token-ttl");
        // etcd's flag is a bare number.
        let seconds = text.parse().ok().map(Duration::from_secs);
        let Some(ttl) = seconds.or_else(|| parse_duration(text)) else {
            return self.refuse(
                "auth-token-ttl",
                format_args!("{text:?} is no number of seconds; write one, such as 300"),
            );
        };
        let (least, most) = (Duration::from_secs(1), Duration::from_secs(365 * 24 * 3600));
        if ttl < least || ttl > most {
            return self.refuse(
                "auth-token-ttl",
                format_args!("{text} is out of bounds, 1 s to a year is allowed"),
            );
        }
        Ok(AuthSettings {
            token,
            ttl,
            bcrypt_cost: self.count("bcrypt-cost", 4, 31)? as u32,
        })
    }

    fn state_bytes_max(&self) -> Result<u64, ConfigError> {
        match parse_bytes(self.text("state-bytes-max")) {
            // What etcd's `--quota-backend-bytes 0` means.
            Some(0) => Ok(2 << 30),
            _ => self.bytes("state-bytes-max", 32 << 10, 1 << 46),
        }
    }

    fn state_bytes_warn(&self, state_bytes_max: u64) -> Result<u64, ConfigError> {
        if self.written("state-bytes-warn").is_none() {
            return Ok(state_bytes_max / 5 * 4);
        }
        self.bytes("state-bytes-warn", 1, state_bytes_max)
    }

    fn auto_compaction(&self) -> Result<AutoCompaction, ConfigError> {
        let retention = self.text("auto-compaction-retention");
        let count: Option<u64> = retention.parse().ok();
        match self.text("auto-compaction-mode") {
            _ if count == Some(0) => Ok(AutoCompaction::Off),
            "revision" => match count {
                Some(revisions) => Ok(AutoCompaction::Revisions(revisions)),
                None => self.refuse(
                    "auto-compaction-retention",
                    format_args!("{retention:?} is no number of revisions; write one such as 10000, or pass --auto-compaction-mode periodic"),
                ),
            },
            "periodic" => {
                let written = || parse_duration(retention);
                let period = count.map_or_else(written, hours);
                match period.filter(|period| RETENTIONS.contains(period)) {
                    Some(period) => Ok(AutoCompaction::Periodic(period)),
                    None => self.refuse(
                        "auto-compaction-retention",
                        format_args!("{retention:?} is no time from 1s to a year; write it as 1h, 30m or 72h30m, or as a number of hours"),
                    ),
                }
            }
            other => self.refuse(
                "auto-compaction-mode",
                format_args!("{other:?} is no mode; write periodic or revision"),
            ),
        }
    }

    fn cluster_exists(&self) -> Result<bool, ConfigError> {
        match self.text("cluster-state") {
            "new" => Ok(false),
            "existing" => Ok(true),
            other => self.refuse(
                "cluster-state",
                format_args!("{other:?} is neither new nor existing; write existing for a member that joins, else leave it out"),
            ),
        }
    }

    fn directory(&self) -> Result<PathBuf, ConfigError> {
        match self.text("data-dir") {
            "" => self.refuse(
                "data-dir",
                "is empty; name a directory, such as ./synod-data",
            ),
            text => Ok(PathBuf::from(text)),
        }
    }

    /// The parts of a list.
    pub(crate) fn parts(&self, name: &str) -> impl Iterator<Item = &str> {
        let parts = self.text(name).split(',').map(str::trim);
        parts.filter(|part| !part.is_empty())
    }

    fn duration(
        &self,
        name: &str,
        least: Duration,
        most: Duration,
    ) -> Result<Duration, ConfigError> {
        let text = self.text(name);
        let Some(duration) = parse_duration(text).or_else(|| milliseconds(name, text)) else {
            return self.refuse(
                name,
                format_args!(
                    "{text:?} is no duration; write a number and a unit, such as 100ms or 2s"
                ),
            );
        };
        if duration < least || duration > most {
            let (low, high) = (show_duration(least), show_duration(most));
            return self.refuse(
                name,
                format_args!("{text} is out of bounds, {low} to {high} is allowed"),
            );
        }
        Ok(duration)
    }

    fn bytes(&self, name: &str, least: u64, most: u64) -> Result<u64, ConfigError> {
        let text = self.text(name);
        let Some(bytes) = parse_bytes(text) else {
            return self.refuse(
                name,
                format_args!(
                    "{text:?} is no size; write a number and a unit, such as 64MiB or 2GiB"
                ),
            );
        };
        if bytes < least || bytes > most {
            return self.refuse(
                name,
                format_args!(
                    "{text} is out of bounds, {} to {} is allowed",
                    show_bytes(least),
                    show_bytes(most)
                ),
            );
        }
        Ok(bytes)
    }

    pub(crate) fn switch(&self, name: &str) -> Result<bool, ConfigError> {
        match self.text(name) {
            "true" => Ok(true),
            "false" => Ok(false),
            text => self.refuse(name, format_args!("{text:?} is neither true nor false")),
        }
    }

    fn count(&self, name: &str, least: u64, most: u64) -> Result<u64, ConfigError> {
        let text = self.text(name);
        match text.parse() {
            Ok(count) if (least..=most).contains(&count) => Ok(count),
            Ok(count) => self.refuse(
                name,
                format_args!("{count} is out of bounds, {least} to {most} is allowed"),
            ),
            Err(_) => self.refuse(name, format_args!("{text:?} is no whole number")),
        }
    }
}

/// etcd writes these two as bare milliseconds.
fn milliseconds(name: &str, text: &str) -> Option<Duration> {
    let bare = matches!(name, "heartbeat-interval" | "election-timeout");
    text.parse()
        .ok()
        .filter(|_| bare)
        .map(Duration::from_millis)
}

fn unknown(key: &str, path: &Path) -> ConfigError {
    if let "log-format" | "log-level" | "config" = key {
        return ConfigError(format!(
            "{key} in {}: is needed before the file is read; pass --{key}",
            path.display()
        ));
    }
    let names: Vec<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    ConfigError(format!(
        "{key} in {}: no such setting; known are {}",
        path.display(),
        names.join(", ")
    ))
}

/// The text of a TOML value; `None` for those that no setting takes.
fn plain(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(on) => Some(on.to_string()),
        // `[cluster]` as a table reads better than one long line.
        toml::Value::Table(table) => {
            let parts: Option<Vec<String>> = table
                .iter()
                .map(|(key, value)| Some(format!("{key}={}", value.as_str()?)))
                .collect();
            Some(parts?.join(","))
        }
        toml::Value::Array(values) => Some(
            values
                .iter()
                .map(plain)
                .collect::<Option<Vec<_>>>()?
                .join(","),
        ),
        _ => None,
    }
}

fn hours(hours: u64) -> Option<Duration> {
    Some(Duration::from_secs(hours.checked_mul(3600)?))
}
