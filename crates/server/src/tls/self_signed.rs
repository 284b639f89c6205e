//! Certificates a member makes for itself (`--auto-tls`, `--peer-auto-tls`): they hide what is sent, they prove nothing.

use super::Port;
use crate::config::Config;
use crate::server::StartError;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tls::{Allowed, Credentials, Pair, Protocol, Source, Trust};
use tracing::warn;

/// Where they lie in the data directory, as etcd has them.
const DIRECTORY: &str = "fixtures";
/// How long they are valid, and how long they must still be at a start.
const DAYS: u32 = 365;
const LEFT_MIN: Duration = Duration::from_secs(90 * 86_400);

/// The credentials of a port that makes its own; made now if there are none, or if they are old.
///
/// # Errors
/// They cannot be written.
pub(crate) fn credentials(
    config: &Config,
    port: Port,
    protocol: Protocol,
) -> Result<Credentials, StartError> {
    let directory = config.data_dir.join(DIRECTORY).join(port.name());
    let (setting, addresses): (_, Vec<&str>) = match port {
        Port::Client => {
            let all = config
                .client_addrs
                .iter()
                .chain(&config.advertise_client_addrs);
            (
                "--auto-tls",
                all.map(|address| address.at.as_str()).collect(),
            )
        }
        Port::Peer => {
            let all = config.peer_addrs.iter();
            let all = all.chain([&config.advertise_peer_addr]);
            ("--peer-auto-tls", all.map(String::as_str).collect())
        }
    };
    let source = |name| Source {
        setting,
        path: directory.join(name),
    };
    let credentials = Credentials {
        own: Some(Pair {
            certificate: source("cert.pem"),
            key: source("key.pem"),
        }),
        dialling: None,
        trust: Trust::Anyone,
        revoked: None,
        allowed: Allowed::Everyone,
        protocol,
    };
    let lasts = credentials
        .read()
        .and_then(|contents| credentials.summary(&contents))
        .is_ok_and(|summary| summary.not_after > SystemTime::now() + LEFT_MIN);
    if !lasts {
        let hosts: Vec<&str> = addresses.into_iter().map(host).collect();
        let issued = tls::self_signed(&config.name, &hosts, DAYS)
            .map_err(|error| StartError::Tls(format!("{setting}: {error}")))?;
        let written = fs::create_dir_all(&directory)
            .and_then(|()| write_new(&directory.join("key.pem"), 0o600, &issued.key))
            .and_then(|()| write_new(&directory.join("cert.pem"), 0o644, &issued.certificate));
        written.map_err(|error| {
            let shown = directory.display();
            StartError::Tls(format!("{setting}: {shown} cannot be written: {error}"))
        })?;
    }
    warn!(port = port.name(), directory = %directory.display(), "certificates of this member's own making: connections are hidden from listeners, but nobody proves who they are");
    Ok(credentials)
}

fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    options.open(path)?.write_all(text.as_bytes())
}

/// The host of `host:port`, without the brackets of an IPv6 address.
pub(crate) fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_what_certificates_name() {
        assert_eq!(host("127.0.0.1:2379"), "127.0.0.1");
        assert_eq!(host("[::1]:2379"), "::1");
        assert_eq!(host("db.example:1"), "db.example");
    }
}
