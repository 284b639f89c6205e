//! Settings: which source wins, and what is said of wrong ones.

use replica::AutoCompaction;
use std::time::Duration;
use synod_server::Config;
use synod_server::config::{
    Address, ETCD_FLAGS, Form, Meaning, PortTls, SETTINGS, Settings, parse_bytes, parse_duration,
};

fn flags(pairs: &[(&str, &str)]) -> Settings {
    Settings::default().flags(
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    )
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    flags(pairs)
        .resolve()
        .expect_err("must be refused")
        .to_string()
}

fn address(text: &str) -> Address {
    Address::parse(text, true).expect("an address")
}

#[test]
fn without_settings_there_is_one_member_on_loopback() {
    let config: Config = Settings::default()
        .resolve()
        .expect("the defaults are good");
    assert_eq!(config.name, "n1");
    assert_eq!(config.data_dir.to_str(), Some("./synod-data"));
    assert_eq!(config.client_addrs, [address("127.0.0.1:2379")]);
    assert_eq!(config.advertise_client_addrs, config.client_addrs);
    assert_eq!(config.metrics_addrs, []);
    assert_eq!(
        config.cluster,
        [("n1".to_owned(), "127.0.0.1:2380".to_owned())].into()
    );
    assert_eq!(config.heartbeat_interval, Duration::from_millis(100));
    assert_eq!(config.state_bytes_max, 2 << 30);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("synod.toml");
    std::fs::write(
        &path,
        "name = 'file'\ndata-dir = 'file'\nheartbeat-interval = '20ms'\nsnapshot-keep-entries = 7\n[cluster]\nflag = 'a:1'\nn2 = 'b:2'\n",
    )
    .expect("the file is written");
    let environment = |name: &str| match name {
        "SYNOD_NAME" | "SYNOD_DATA_DIR" => Some("environment".to_owned()),
        _ => None,
    };
    let settings = Settings::default()
        .file(&path)
        .expect("the file is good")
        .environment(environment);
    let config = settings
        .flags([("name".to_owned(), "flag".to_owned())])
        .resolve()
        .expect("all is good");
    assert_eq!(config.name, "flag");
    assert_eq!(config.data_dir.to_str(), Some("environment"));
    assert_eq!(config.heartbeat_interval, Duration::from_millis(20));
    assert_eq!(config.snapshot_keep_entries, 7);
    assert_eq!(config.cluster.len(), 2);
    assert_eq!(config.advertise_peer_addr, "a:1");
}

#[test]
fn a_wrong_setting_is_named_as_it_was_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("synod.toml");
    std::fs::write(&path, "client-adr = 'x'\n").expect("the file is written");
    let error = Settings::default()
        .file(&path)
        .expect_err("an unknown key")
        .to_string();
    assert!(
        error.contains("client-adr") && error.contains("client-addr,"),
        "{error}"
    );
    std::fs::write(&path, "log-format = 'json'\n").expect("the file is written");
    let error = Settings::default().file(&path).expect_err("a flag's place");
    assert!(error.to_string().ends_with("pass --log-format"), "{error}");
    std::fs::write(&path, "client-addr = 'x'\n").expect("the file is written");
    let file = Settings::default().file(&path).expect("it is TOML");
    let error = file.resolve().expect_err("no port").to_string();
    assert!(
        error.starts_with("client-addr in the config file: "),
        "{error}"
    );
    let environment = Settings::default()
        .environment(|name| (name == "SYNOD_PEER_ADDR").then(|| "http://h:1".to_owned()));
    let error = environment.resolve().expect_err("a URL").to_string();
    assert!(error.starts_with("SYNOD_PEER_ADDR: "), "{error}");
}

#[test]
fn refusals_say_what_to_write_instead() {
    for (pairs, expected) in [
        (&[("name", "a b")][..], "--name: \"a b\" is no name"),
        (&[("client-addr", "h")], "has no port; write HOST:PORT"),
        (&[("client-addr", "::1:2379")], "write [::1]:2379"),
        (&[("client-addr", "[::1]")], "has no port; write [::1]:2379"),
        (
            &[("client-addr", "127.0.0.1:2380")],
            "--peer-addr: 127.0.0.1:2380 is the address of --client-addr too",
        ),
        (
            &[("client-addr", "h:1,h:2"), ("metrics-addr", "http://h:2")],
            "--metrics-addr: h:2 is the address of --client-addr too; give each its own port",
        ),
        (
            &[("peer-addr", "h:1"), ("metrics-addr", "h:1")],
            "--metrics-addr: h:1 is the address of --peer-addr too",
        ),
        (&[("peer-addr", "h:70000")], "1 to 65535 is allowed"),
        (&[("client-addr", " , ")], "is empty; write HOST:PORT"),
        (&[("client-addr", "h:1,h:2,h:1")], "h:1 is listed twice"),
        (
            &[("client-addr", "h:1,https://h:2")],
            "https://h:2 needs a certificate; pass --cert-file",
        ),
        (
            &[("metrics-addr", "ftp://h:1")],
            "is a URL; write HOST:PORT",
        ),
        (&[("advertise-client-addr", "h:1,h")], "has no port"),
        (
            &[("client-addr", "h:1,0.0.0.0:1")],
            "0.0.0.0:1 listens everywhere but tells nobody where",
        ),
        (
            &[("client-addr", "0.0.0.0:1")],
            "pass --advertise-client-addr",
        ),
        (&[("cluster", "n1")], "is not NAME=HOST:PORT"),
        (&[("cluster", "n2=h:1")], "this member (n1) is not among n2"),
        (&[("cluster", "n1=h:1,n1=h:2")], "n1 is listed twice"),
        (&[("cluster", "n1=h:1,n2=h:1")], "stands for two members"),
        (
            &[("cluster", "n1=h:1"), ("advertise-peer-addr", "h:2")],
            "h:2 differs from h:1",
        ),
        (&[("heartbeat-interval", "five")], "such as 100ms"),
        (&[("heartbeat-interval", "1ms")], "10ms to 10s is allowed"),
        (
            &[("election-timeout", "200ms")],
            "200 ms is too short, at least 3 heartbeats (300 ms) are needed; pass --election-timeout 300ms",
        ),
        (&[("state-bytes-max", "1")], "32KiB to 64TiB is allowed"),
        (&[("state-bytes-max", "lots")], "such as 64MiB"),
        (&[("data-dir", "")], "name a directory"),
    ] {
        let refusal = refusal(pairs);
        assert!(refusal.contains(expected), "{pairs:?}: {refusal}");
    }
}

#[test]
fn sizes_and_durations_are_read_with_their_units() {
    assert_eq!(parse_bytes("1536KiB"), Some(1536 << 10));
    assert_eq!(parse_bytes("2g"), Some(2 << 30));
    assert_eq!(parse_bytes("99999999999999t"), None);
    assert_eq!(parse_duration("2m"), Some(Duration::from_secs(120)));
    assert_eq!(parse_duration("2"), None);
    assert_eq!(parse_duration("99999999999999999999s"), None);
}

#[test]
fn every_setting_is_explained() {
    for setting in SETTINGS {
        assert!(setting.help.len() > 20, "{}", setting.name);
        assert!(!setting.default.is_empty(), "{}", setting.name);
        assert!(setting.environment().starts_with("SYNOD_"));
    }
}

/// The page for operators is made from the table; `UPDATE_GOLDEN=1` writes it.
#[test]
fn the_page_of_settings_is_current() {
    let mut page = "# Settings\n\nOf `synod serve`. Each may be given as a flag, as an environment variable, or as a key in the TOML file named by `--config`; flags win over the \
                    environment, and that over the file. Durations are a number and `ms`, `s`, `m` or `h`; sizes a number and `KiB`, `MiB` or `GiB`.\n\n\
                    | setting | environment | value | default | what it does |\n|---|---|---|---|---|\n"
        .to_owned();
    for setting in SETTINGS {
        let (name, value, default) = (setting.name, setting.value, setting.default);
        page += &format!(
            "| `--{name}` | `{}` | `{value}` | {default} | {} |\n",
            setting.environment(),
            setting.help
        );
    }
    page += "\nBesides, `--log-format text|json` (`SYNOD_LOG_FORMAT`) and `--log-level` (`SYNOD_LOG_LEVEL`, `RUST_LOG`) say how and what to log to stderr: a level, or one for each module, such as `info,synod_server::peers=debug`. \
             These are no keys of the file, which is read when the log is open.\n";
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/operate/settings.md"
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).expect("the page is there");
    assert_eq!(written, page, "run this test with UPDATE_GOLDEN=1");
}

/// So is the page for those who come from etcd.
#[test]
fn the_page_of_etcds_flags_is_current() {
    let mut page = "# Starting with etcd's flags\n\n`synod serve` takes etcd's flags and `ETCD_` variables, so that a unit file or a manifest goes on working. Flags win over variables, and \
                    those of Synod over those of etcd. A flag that has no effect here is accepted with a warning that says why (none if its value asks for what is so anyway); one that \
                    must not be passed over, and an unknown one, is refused. `--heartbeat-interval` and `--election-timeout` take bare milliseconds as well, `--log-level` and \
                    `--log-format` etcd's words.\n\n| flag | here |\n|---|---|\n"
        .to_owned();
    for flag in ETCD_FLAGS {
        let meaning = match &flag.meaning {
            Meaning::Is(setting, _) if *setting == flag.name => "the setting of this name".into(),
            Meaning::Is(setting, Form::Url) => {
                format!("`--{setting}`, the first URL's host and port")
            }
            Meaning::Is(setting, Form::Urls | Form::Addresses) => {
                format!("`--{setting}`, all of them")
            }
            Meaning::Is(setting, _) => format!("`--{setting}`"),
            Meaning::Nothing { why, .. } => format!("no effect: {why}"),
            Meaning::Refused { why, .. } => format!("refused: {why}"),
        };
        page += &format!("| `--{}` | {meaning} |\n", flag.name);
    }
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../docs/operate/etcd-flags.md"
    );
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(path, &page).expect("the page can be written");
    }
    let written = std::fs::read_to_string(path).expect("the page is there");
    assert_eq!(written, page, "run this test with UPDATE_GOLDEN=1");
}

#[test]
fn etcds_variables_and_flags_are_settings_and_ours_win() {
    let variable = |name: &str| match name {
        "ETCD_NAME" => Some("from-etcd".to_owned()),
        "ETCD_LISTEN_PEER_URLS" => Some("http://10.0.0.1:2380".to_owned()),
        "ETCD_INITIAL_CLUSTER_STATE" => Some("existing".to_owned()),
        "ETCD_WAL_DIR" => Some("/wal".to_owned()),
        "SYNOD_NAME" => Some("ours".to_owned()),
        _ => None,
    };
    let settings = Settings::default()
        .etcd_environment(variable, ["ETCD_SPELT_WRONG".to_owned()].into_iter())
        .expect("all is good")
        .environment(variable)
        .etcd_flags([("listen-client-urls", "http://10.0.0.1:23".to_owned())])
        .expect("all is good");
    let told = settings.warnings().join("; ");
    assert!(told.contains("ETCD_WAL_DIR has no effect"), "{told}");
    assert!(told.contains("ETCD_SPELT_WRONG is no setting"), "{told}");
    let config = settings.resolve().expect("all is good");
    assert_eq!(config.name, "ours");
    assert_eq!(config.peer_addrs, ["10.0.0.1:2380"]);
    assert_eq!(config.client_addrs, [address("http://10.0.0.1:23")]);
    assert!(config.cluster_exists);
    // Who wrote it wrong hears the name it was written with.
    let refused = Settings::default()
        .etcd_flags([("max-request-bytes", "much".to_owned())])
        .expect("it is understood later")
        .resolve()
        .expect_err("must be refused");
    assert!(refused.0.starts_with("--max-request-bytes: "), "{refused}");
}

/// Both files may be missing: settings are judged before anything is read.
#[test]
fn settings_of_tls_are_judged_together() {
    let refused = |pairs: &[(&str, &str)], fix: &str| {
        let text = refusal(pairs);
        assert!(text.contains(fix), "{text}");
        assert!(text.starts_with("--"), "{text}");
    };
    let good = |pairs: &[(&str, &str)]| flags(pairs).resolve().expect("they belong together");
    let pair = [("cert-file", "c"), ("key-file", "k")];
    let peers = [("peer-cert-file", "c"), ("peer-key-file", "k")];
    assert!(matches!(good(&pair).client_tls, PortTls::Files(_)));
    assert_eq!(good(&pair).peer_tls, PortTls::Off);
    assert!(matches!(
        good(&[("auto-tls", "true")]).client_tls,
        PortTls::SelfSigned(_)
    ));
    refused(&pair[..1], "pass --key-file too");
    refused(&pair[1..], "pass --cert-file too");
    refused(
        &[("trusted-ca-file", "a")],
        "pass --cert-file and --key-file too",
    );
    refused(
        &[("client-cert-auth", "true")],
        "pass --cert-file and --key-file too",
    );
    refused(&[("client-cert-auth", "yes")], "neither true nor false");
    let with = |name, value| [&pair[..], &[(name, value)]].concat();
    refused(
        &with("client-cert-auth", "true"),
        "pass --trusted-ca-file too",
    );
    refused(&with("client-crl-file", "r"), "pass --trusted-ca-file too");
    refused(&with("tls-min-version", "TLS1.1"), "TLS1.2 and TLS1.3");
    refused(
        &with("cipher-suites", "TLS_RSA_WITH_RC4_128_SHA"),
        "known are TLS_",
    );
    refused(&peers, "pass --peer-trusted-ca-file too");
    refused(
        &[("peer-crl-file", "r")],
        "pass --peer-cert-file and --peer-key-file too",
    );
    let both = [
        &peers[..],
        &[
            ("peer-trusted-ca-file", "a"),
            ("peer-cert-allowed-cn", "n1"),
            ("peer-cert-allowed-hostname", "h"),
        ],
    ];
    refused(&both.concat(), "leave one out");
}

#[test]
fn certificates_that_cannot_be_used_stop_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key) = (path("c.pem"), path("k.pem"));
    let config = flags(&[
        ("data-dir", &path("data")),
        ("client-addr", "127.0.0.1:0"),
        ("peer-addr", "127.0.0.1:0"),
        ("cert-file", &certificate),
        ("key-file", &key),
    ]);
    let config = config.resolve().expect("nothing was read yet");
    let refused = || match synod_server::Member::start(config.clone()) {
        Err(synod_server::StartError::Tls(reason)) => reason,
        Err(other) => panic!("refused for something else: {other}"),
        Ok(_) => panic!("it must not start"),
    };
    assert!(refused().contains("c.pem is not there"), "{}", refused());
    std::fs::write(&certificate, "nothing of the kind").expect("written");
    std::fs::write(&key, "nothing of the kind").expect("written");
    assert!(refused().contains("holds no certificate"), "{}", refused());
}

#[test]
fn history_is_kept_by_time_or_by_number_as_etcd_writes_it() {
    let kept = |mode: &str, retention: &str| {
        let settings = flags(&[
            ("auto-compaction-mode", mode),
            ("auto-compaction-retention", retention),
        ]);
        settings.resolve().map(|config| config.auto_compaction)
    };
    let periodic = |seconds| Ok(AutoCompaction::Periodic(Duration::from_secs(seconds)));
    assert_eq!(
        Settings::default().resolve().unwrap().auto_compaction,
        AutoCompaction::Off
    );
    assert_eq!(kept("periodic", "0"), Ok(AutoCompaction::Off));
    assert_eq!(kept("revision", "0"), Ok(AutoCompaction::Off));
    assert_eq!(kept("periodic", "2"), periodic(7200));
    assert_eq!(kept("periodic", "5m"), periodic(300));
    assert_eq!(kept("periodic", "72h30m"), periodic(72 * 3600 + 1800));
    assert_eq!(
        kept("revision", "1000"),
        Ok(AutoCompaction::Revisions(1000))
    );
    let why = |mode, retention| {
        kept(mode, retention)
            .expect_err("must be refused")
            .to_string()
    };
    assert!(why("periodic", "soon").contains("\"soon\" is no time"));
    assert!(why("periodic", "10ms").contains("\"10ms\" is no time from 1s"));
    assert!(why("revision", "5m").contains("is no number of revisions"));
    assert!(why("weekly", "5m").contains("write periodic or revision"));
}

#[test]
fn the_limit_of_the_state_warns_before_it_is_reached() {
    let resolved = |pairs: &[(&str, &str)]| flags(pairs).resolve().expect("good settings");
    let config = resolved(&[("state-bytes-max", "100MiB")]);
    assert_eq!(
        (config.state_bytes_max, config.state_bytes_warn),
        (100 << 20, 80 << 20)
    );
    let config = resolved(&[("state-bytes-max", "0")]);
    assert_eq!(config.state_bytes_max, 2 << 30, "as etcd takes it");
    let config = resolved(&[("state-bytes-warn", "1GiB")]);
    assert_eq!(config.state_bytes_warn, 1 << 30);
    assert!(refusal(&[("state-bytes-max", "1KiB")]).contains("32KiB to 64TiB"));
    assert!(refusal(&[("state-bytes-warn", "3GiB")]).contains("out of bounds"));
}
