//! Two ends in memory: who is let in, who is not, and in which words that is said on both sides.

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Connection, ServerConnection};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use synod_tls::{
    Allowed, Authority, Credentials, Issued, Pair, Protocol, Source, Trust, Usage, explain, rustls,
};
use tempfile::TempDir;

/// A directory of certificates of one authority.
struct Place {
    directory: TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Place {
        let directory = tempfile::tempdir().expect("a directory");
        let (authority, own) = Authority::new("test authority", 30).expect("an authority");
        std::fs::write(directory.path().join("ca.pem"), own.certificate).expect("it is written");
        Place {
            directory,
            authority,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn source(&self, setting: &'static str, name: &str) -> Source {
        Source {
            setting,
            path: self.path(name),
        }
    }

    fn write(&self, name: &str, issued: &Issued) -> Pair {
        std::fs::write(self.path(&format!("{name}.pem")), &issued.certificate).expect("written");
        std::fs::write(self.path(&format!("{name}-key.pem")), &issued.key).expect("written");
        Pair {
            certificate: self.source("--cert-file", &format!("{name}.pem")),
            key: self.source("--key-file", &format!("{name}-key.pem")),
        }
    }

    fn issue(&self, usage: Usage, name: &str, days: u32) -> Pair {
        let hosts: &[&str] = if usage == Usage::Server {
            &["localhost", "127.0.0.1"]
        } else {
            &[]
        };
        let issued = self.authority.issue(usage, name, hosts, days);
        self.write(name, &issued.expect("a certificate"))
    }

    fn trusting(&self, own: Option<Pair>) -> Credentials {
        Credentials {
            own,
            dialling: None,
            trust: Trust::File(self.source("--trusted-ca-file", "ca.pem")),
            revoked: None,
            allowed: Allowed::Everyone,
            protocol: Protocol::default(),
        }
    }

    /// A server that demands certificates, and a client with one.
    fn ends(&self) -> (Credentials, Credentials) {
        (
            self.trusting(Some(self.issue(Usage::Server, "server", 30))),
            self.trusting(Some(self.issue(Usage::Client, "alice", 30))),
        )
    }
}

/// Why a handshake failed, in the words of each side; `None` for a side that saw nothing wrong.
#[derive(Debug, Default)]
struct Failed {
    server: Option<String>,
    client: Option<String>,
}

/// Shakes hands; the server's end on success.
fn shake(
    server: &Credentials,
    client: &Credentials,
    host: &str,
) -> Result<ServerConnection, Failed> {
    let contents = server.read().expect("the server's files are there");
    let config = server
        .server(&contents, true)
        .expect("the server's files are good");
    let mut accepting =
        Connection::from(ServerConnection::new(Arc::new(config)).expect("a server"));
    let contents = client.read().expect("the client's files are there");
    let config = client
        .client(&contents, true)
        .expect("the client's files are good");
    let name = ServerName::try_from(host.to_owned()).expect("a host");
    let mut dialling =
        Connection::from(ClientConnection::new(Arc::new(config), name).expect("a client"));
    let mut failed = Failed::default();
    for _ in 0..10 {
        failed.server = failed
            .server
            .or(pass(&mut dialling, &mut accepting, "the client"));
        failed.client = failed
            .client
            .or(pass(&mut accepting, &mut dialling, "the server"));
    }
    match accepting {
        Connection::Server(accepting)
            if failed.server.is_none()
                && failed.client.is_none()
                && !accepting.is_handshaking() =>
        {
            Ok(accepting)
        }
        _ => Err(failed),
    }
}

/// Carries bytes from one end to the other; what the receiver says of them if it does not like them.
fn pass(from: &mut Connection, to: &mut Connection, sender: &str) -> Option<String> {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).expect("memory takes bytes");
    }
    let mut bytes = &bytes[..];
    while !bytes.is_empty() {
        to.read_tls(&mut bytes).expect("there is room");
        if let Err(error) = to.process_new_packets() {
            return Some(explain(
                &io::Error::new(io::ErrorKind::InvalidData, error),
                sender,
            ));
        }
    }
    None
}

fn refused(server: &Credentials, client: &Credentials, host: &str) -> (String, String) {
    let failed = shake(server, client, host)
        .map(|_| ())
        .expect_err("they must not come together");
    (
        failed.server.unwrap_or_default(),
        failed.client.unwrap_or_default(),
    )
}

fn set_aside(path: &Path) {
    std::fs::remove_file(path).expect("it was there");
}

#[test]
fn both_show_good_certificates_and_the_name_is_known() {
    let place = Place::new();
    let (server, client) = place.ends();
    let accepted = shake(&server, &client, "127.0.0.1").expect("they trust each other");
    let shown = accepted.peer_certificates().expect("it showed one");
    assert_eq!(synod_tls::common_name(&shown[0]).as_deref(), Some("alice"));
    assert_eq!(accepted.alpn_protocol(), Some(&b"h2"[..]));
}

#[test]
fn a_client_without_a_certificate_is_turned_away() {
    let place = Place::new();
    let (server, _) = place.ends();
    let (here, there) = refused(&server, &place.trusting(None), "localhost");
    assert!(
        here.starts_with("the client shows no certificate"),
        "{here}"
    );
    assert!(
        there.contains("wants a certificate from this side"),
        "{there}"
    );
}

#[test]
fn a_server_that_demands_none_takes_anyone() {
    let place = Place::new();
    let (mut server, _) = place.ends();
    server.trust = Trust::Anyone;
    let accepted = shake(&server, &place.trusting(None), "localhost").expect("it takes anyone");
    assert!(accepted.peer_certificates().is_none());
}

#[test]
fn strangers_certificates_are_refused_on_both_sides() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (server, client) = place.ends();
    let stranger = elsewhere.issue(Usage::Client, "mallory", 30);
    let (here, there) = refused(&server, &place.trusting(Some(stranger)), "localhost");
    assert!(here.starts_with("the certificate of the client"), "{here}");
    // Both authorities have the same name, so it is the signature that does not fit.
    assert!(
        here.contains("signature") || here.contains("not trusted here"),
        "{here}"
    );
    assert!(!there.is_empty());
    let pretender = elsewhere.trusting(Some(elsewhere.issue(Usage::Server, "server", 30)));
    let (_, there) = refused(&pretender, &client, "localhost");
    assert!(
        there.starts_with("the certificate of the server"),
        "{there}"
    );
}

#[test]
fn a_client_that_checks_nothing_takes_any_server() {
    let (place, elsewhere) = (Place::new(), Place::new());
    let (mut server, _) = place.ends();
    server.trust = Trust::Anyone;
    let mut careless = elsewhere.trusting(None);
    careless.trust = Trust::Anyone;
    assert!(shake(&server, &careless, "elsewhere.example").is_ok());
}

#[test]
fn a_certificate_for_another_host_is_refused_and_named() {
    let place = Place::new();
    let (server, client) = place.ends();
    let (_, there) = refused(&server, &client, "127.0.0.2");
    assert!(there.contains("is not made out for 127.0.0.2"), "{there}");
    assert!(there.contains("localhost"), "{there}");
}

#[test]
fn a_clients_certificate_does_not_make_a_server() {
    let place = Place::new();
    let (_, client) = place.ends();
    let issued = place
        .authority
        .issue(Usage::Client, "alice", &["localhost"], 30)
        .expect("a certificate");
    let impostor = place.trusting(Some(place.write("impostor", &issued)));
    let (_, there) = refused(&impostor, &client, "localhost");
    assert!(there.contains("extended key usage"), "{there}");
}

#[test]
fn revoked_certificates_are_refused_and_the_list_grows() {
    let place = Place::new();
    let (mut server, client) = place.ends();
    let serial = |credentials: &Credentials| {
        let contents = credentials.read().expect("the files are there");
        credentials
            .summary(&contents)
            .expect("a certificate")
            .serial
    };
    let bob = place.trusting(Some(place.issue(Usage::Client, "bob", 30)));
    let first = place
        .authority
        .revoke(None, &serial(&client))
        .expect("a list");
    std::fs::write(place.path("revoked.pem"), &first).expect("written");
    server.revoked = Some(place.source("--client-crl-file", "revoked.pem"));
    let (here, _) = refused(&server, &client, "localhost");
    assert_eq!(here, "the certificate of the client is revoked");
    assert!(shake(&server, &bob, "localhost").is_ok());

    let both = place
        .authority
        .revoke(Some(&first), &serial(&bob))
        .expect("a list");
    std::fs::write(place.path("revoked.pem"), both).expect("written");
    for client in [&client, &bob] {
        refused(&server, client, "localhost");
    }
}

#[test]
fn only_allowed_names_are_let_in() {
    let place = Place::new();
    let (mut server, client) = place.ends();
    server.allowed = Allowed::CommonNames(vec!["bob".into(), "alice".into()]);
    assert!(shake(&server, &client, "localhost").is_ok());
    server.allowed = Allowed::CommonNames(vec!["bob".into()]);
    let (here, _) = refused(&server, &client, "localhost");
    assert!(
        here.contains("(CN=alice) has none of the allowed names: bob"),
        "{here}"
    );

    let member = place.trusting(Some(place.issue(Usage::Server, "n2", 30)));
    server.allowed = Allowed::Hosts(vec!["localhost".into()]);
    assert!(shake(&server, &member, "localhost").is_ok());
    server.allowed = Allowed::Hosts(vec!["other.example".into()]);
    refused(&server, &member, "localhost");
    // It holds in both directions.
    server.allowed = Allowed::Everyone;
    let mut picky = member.clone();
    picky.allowed = Allowed::CommonNames(vec!["n3".into()]);
    let (_, there) = refused(&server, &picky, "localhost");
    assert!(there.contains("allowed names: n3"), "{there}");
}

#[test]
fn versions_that_differ_are_told_apart_from_certificates() {
    let place = Place::new();
    let (mut server, mut client) = place.ends();
    server.protocol = Protocol::parse("TLS1.3", "", &[]).expect("known");
    client.protocol = Protocol::parse("", "TLS1.2", &[]).expect("known");
    let (here, there) = refused(&server, &client, "localhost");
    assert!(here.contains("no version"), "{here}");
    assert!(there.contains("other versions of TLS"), "{there}");
}

#[test]
fn files_that_make_no_sense_are_refused_with_the_way_out() {
    let place = Place::new();
    let (server, _) = place.ends();
    let wrong = |credentials: &Credentials| match credentials.read() {
        Err(error) => error.0,
        Ok(contents) => {
            credentials
                .server(&contents, true)
                .map(|_| ())
                .expect_err("must be refused")
                .0
        }
    };
    let other = place.issue(Usage::Server, "other", 30);
    let with_key = |name: &str| {
        let mut credentials = server.clone();
        credentials.own.as_mut().expect("it has one").key = place.source("--key-file", name);
        credentials
    };
    assert!(wrong(&with_key("other-key.pem")).contains("is not the key of the certificate"));
    assert!(wrong(&with_key("nothing.pem")).contains("--key-file: "));
    assert!(wrong(&with_key("nothing.pem")).contains("synod cert"));
    assert!(wrong(&with_key("ca.pem")).contains("holds no private key"));
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    std::fs::write(place.path("locked.pem"), encrypted).expect("written");
    assert!(wrong(&with_key("locked.pem")).contains("openssl pkey"));
    drop(other);

    let mut expired = server.clone();
    let issued = place
        .authority
        .issue(Usage::Server, "old", &["localhost"], 0)
        .expect("a certificate");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    expired.own = Some(place.write("old", &issued));
    assert!(
        wrong(&expired).contains("expired on"),
        "{}",
        wrong(&expired)
    );

    let mut no_authority = server.clone();
    no_authority.trust = Trust::File(place.source("--trusted-ca-file", "server-key.pem"));
    assert!(wrong(&no_authority).contains("holds no certificate"));
    let mut no_list = server.clone();
    no_list.revoked = Some(place.source("--client-crl-file", "ca.pem"));
    assert!(wrong(&no_list).contains("holds no revocation list"));
    set_aside(&place.path("ca.pem"));
    assert!(wrong(&server).starts_with("--trusted-ca-file: "));
}

#[test]
fn contents_tell_whether_anything_changed() {
    let place = Place::new();
    let (server, _) = place.ends();
    let before = server.read().expect("the files are there");
    assert!(before == server.read().expect("the files are there"));
    place.issue(Usage::Server, "server", 30);
    assert!(before != server.read().expect("the files are there"));
}

#[cfg(unix)]
#[test]
fn a_key_that_everybody_can_read_is_pointed_out() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let (server, _) = place.ends();
    let key = place.path("server-key.pem");
    let mode = |mode| std::fs::set_permissions(&key, PermissionsExt::from_mode(mode));
    mode(0o600).expect("it is mine");
    assert!(server.unwise().is_empty());
    mode(0o644).expect("it is mine");
    assert!(server.unwise()[0].contains("chmod 600"));
}
