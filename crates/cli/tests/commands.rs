//! The commands as scripts use them: output, errors and exit codes, against a member run by the same binary.

mod member;

use member::Member;
use std::process::{Command, Output};

#[test]
fn keys_are_put_read_and_removed() {
    let member = Member::start();
    assert_eq!(member.text(&["put", "hello", "world"]), "OK\n");
    assert_eq!(member.text(&["get", "hello"]), "hello\nworld\n");
    assert_eq!(
        member.text(&["get", "hello", "--consistency", "local", "--value-only"]),
        "world\n"
    );
    assert_eq!(
        member
            .run_with(&["put", "from/stdin"], "a\nb")
            .status
            .code(),
        Some(0)
    );
    assert_eq!(
        member.text(&["get", "--prefix", "from/", "--keys-only"]),
        "from/stdin\n"
    );

    let got = member.json(&["get", "hello"]);
    assert_eq!(
        (
            got["kvs"][0]["value"].as_str(),
            got["kvs"][0]["version"].as_i64()
        ),
        (Some("world"), Some(1))
    );
    let stamp = got["stamp"]
        .as_str()
        .expect("every answer has a stamp")
        .to_owned();
    assert_eq!(
        member.text(&[
            "get",
            "hello",
            "--consistency",
            &format!("at-least={stamp}")
        ]),
        "hello\nworld\n"
    );

    let txn = [
        "txn",
        "--if",
        "value(hello) = world",
        "--then",
        "put hello there --prev",
        "--else",
        "get hello",
    ];
    assert_eq!(member.text(&txn), "SUCCESS\n\nOK\nhello\nworld\n");
    let again = member.run_with(&["txn"], "mod(\"hello\") = \"0\"\n\nput a b\n\nget hello\n");
    assert_eq!(
        String::from_utf8_lossy(&again.stdout),
        "FAILURE\n\nhello\nthere\n"
    );

    assert_eq!(
        member.text(&["watch", "hello", "--revision", "2", "--count", "2"]),
        "PUT\nhello\nworld\nPUT\nhello\nthere\n"
    );
    assert_eq!(member.text(&["del", "--prefix", ""]), "2\n");
    assert_eq!(member.text(&["get", "--prefix", "", "--count-only"]), "0\n");
}

#[test]
fn leases_come_and_go() {
    let member = Member::start();
    let id = member.text(&["lease", "grant", "60s"]).trim().to_owned();
    assert_eq!(member.text(&["put", "k", "v", "--lease", &id]), "OK\n");
    assert_eq!(member.text(&["lease", "list"]).trim(), id);
    assert_eq!(
        member.text(&["lease", "keep-alive", &id, "--once"]).trim(),
        format!("{id} kept alive for 60 s")
    );
    let ttl = member.json(&["lease", "ttl", &id, "--keys"]);
    assert_eq!(
        (
            ttl["granted_ttl_seconds"].as_i64(),
            ttl["keys"][0]["key"].as_str()
        ),
        (Some(60), Some("k"))
    );
    assert_eq!(
        member.text(&["lease", "revoke", &id]).trim(),
        format!("revoked {id}")
    );
    assert_eq!(member.run(&["lease", "ttl", &id]).status.code(), Some(1));
    assert_eq!(member.text(&["get", "k"]), "");
}

#[test]
fn members_and_their_state_are_shown() {
    let member = Member::start();
    // A linearizable read is answered once there is a leader.
    member.run(&["get", "k"]);
    let status = member.json(&["status"]);
    assert_eq!(
        (status["role"].as_str(), status["endpoint"].as_str()),
        (Some("leader"), Some(member.endpoint.as_str()))
    );
    let members = member.json(&["member", "list"]);
    assert_eq!(members["members"][0]["name"].as_str(), Some("n1"));
    assert!(member.text(&["status"]).starts_with("ENDPOINT"));
}

#[test]
fn exit_codes_tell_refused_from_wrong_usage_from_unreachable() {
    let member = Member::start();
    let code = |arguments: &[&str]| {
        let output = member.run(arguments);
        assert!(
            output.stdout.is_empty(),
            "{arguments:?} printed {:?}",
            String::from_utf8_lossy(&output.stdout)
        );
        (
            output.status.code().expect("it ended by itself"),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (refused, text) = code(&["get", "k", "--revision", "99"]);
    assert_eq!(
        (refused, text.trim()),
        (
            1,
            "error: etcdserver: mvcc: required revision is a future revision"
        )
    );
    assert_eq!(code(&["put", "", "v"]).0, 1);
    assert_eq!(code(&["get"]).0, 2);
    assert_eq!(code(&["get", "k", "--consistency", "strong"]).0, 2);
    assert_eq!(code(&["txn", "--if", "mod(k)"]).0, 2);
    let (unreachable, text) = code(&[
        "get",
        "k",
        "--endpoints",
        "127.0.0.1:1",
        "--timeout",
        "200ms",
    ]);
    assert_eq!(unreachable, 3);
    assert!(
        text.contains("Connection refused") && text.contains("--endpoints"),
        "{text}"
    );
}

#[test]
fn wrong_settings_are_refused_with_the_fix() {
    let serve = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_synod"))
            .arg("serve")
            .args(arguments)
            .output()
            .expect("the binary runs");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )
    };
    let (code, text) = serve(&["--election-timeout", "100ms"]);
    assert_eq!(code, Some(2));
    assert_eq!(
        text,
        "error: --election-timeout: 100 ms is too short, at least 3 heartbeats (300 ms) are needed; pass --election-timeout 300ms"
    );
    assert_eq!(serve(&["--log-level", "loud"]).0, Some(2));
    assert_eq!(serve(&["--cluster", "n2=h:1"]).0, Some(2));
}

fn synod(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_synod"))
        .args(arguments)
        .output()
        .expect("the binary runs")
}

#[test]
fn certificates_are_made_shown_and_taken_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let place = directory.path().display().to_string();
    let cert = |arguments: &[&str]| synod(&[&["cert", "--dir", &place], arguments].concat());
    let said = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let early = cert(&["client", "--name", "alice"]);
    assert_eq!(early.status.code(), Some(1));
    assert!(said(&early).contains("synod cert ca"), "{}", said(&early));
    for made in [
        &["ca"][..],
        &["server", "--name", "n1"],
        &["client", "--name", "alice"],
        &["client", "--name", "bob"],
    ] {
        let output = cert(made);
        assert!(output.status.success(), "{made:?}: {}", said(&output));
    }
    let again = cert(&["client", "--name", "alice"]);
    assert!(said(&again).contains("--replace"), "{}", said(&again));
    assert!(
        cert(&["client", "--name", "alice", "--replace"])
            .status
            .success()
    );
    assert!(cert(&["revoke", "bob"]).status.success());

    let file = |name: &str| format!("{place}/{name}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let metadata = std::fs::metadata(file(name)).expect("it was made");
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("ca-key.pem"), 0o600);
    assert_eq!(mode("alice-key.pem"), 0o600);

    let member = Member::start_with(&[
        "--cert-file",
        &file("n1.pem"),
        "--key-file",
        &file("n1-key.pem"),
        "--trusted-ca-file",
        &file("ca.pem"),
        "--client-crl-file",
        &file("crl.pem"),
        "--client-cert-auth",
    ]);
    assert!(
        member.endpoint.starts_with("https://"),
        "{}",
        member.endpoint
    );
    let with = |name: &str, arguments: &[&str]| {
        let own = [
            file("ca.pem"),
            file(&format!("{name}.pem")),
            file(&format!("{name}-key.pem")),
        ];
        let flags = [
            "--cacert",
            &own[0],
            "--cert",
            &own[1],
            "--key",
            &own[2],
            "--timeout",
            "1s",
        ];
        member.run(&[arguments, &flags].concat())
    };
    let put = with("alice", &["put", "hello", "world"]);
    assert!(put.status.success(), "{}", said(&put));
    let status = with("alice", &["status", "--all"]);
    assert!(status.status.success(), "{}", said(&status));
    let revoked = said(&with("bob", &["get", "hello"]));
    assert!(
        revoked.contains("finds this side's certificate revoked"),
        "{revoked}"
    );
    let bare = member.run(&[
        "get",
        "hello",
        "--cacert",
        &file("ca.pem"),
        "--timeout",
        "1s",
    ]);
    assert_eq!(bare.status.code(), Some(3));
    assert!(
        said(&bare).contains("wants a certificate from this side"),
        "{}",
        said(&bare)
    );
    let halved = member.run(&["get", "hello", "--cert", &file("alice.pem")]);
    assert_eq!(halved.status.code(), Some(2));
    assert!(
        said(&halved).contains("pass --key too"),
        "{}",
        said(&halved)
    );
    let unknown = member.run(&[
        "get",
        "hello",
        "--cacert",
        &file("bob.pem"),
        "--timeout",
        "1s",
    ]);
    assert!(
        said(&unknown).contains("not trusted here"),
        "{}",
        said(&unknown)
    );
    // Plain text where TLS is spoken, and the other way round.
    let address = member.endpoint.trim_start_matches("https://");
    let plain = synod(&["get", "hello", "--endpoints", address, "--timeout", "1s"]);
    assert_eq!(plain.status.code(), Some(3));
    let open = Member::start();
    let secret = open.run(&[
        "get",
        "hello",
        "--insecure-skip-tls-verify",
        "--timeout",
        "1s",
    ]);
    assert!(
        said(&secret).contains("does not speak TLS"),
        "{}",
        said(&secret)
    );
}

#[test]
fn users_roles_and_authentication_are_managed() {
    let member = Member::start();
    assert_eq!(
        member.text(&["auth", "status"]),
        "authentication is off, at revision 1 of users and roles\n"
    );
    assert_eq!(
        member.text(&["user", "add", "root:root's"]),
        "user root added\n"
    );
    // A password that is not given comes on standard input.
    let added = member.run_with(&["user", "add", "ann"], "ann's\n");
    assert_eq!(String::from_utf8_lossy(&added.stdout), "user ann added\n");
    member.text(&["user", "grant-role", "root", "root"]);
    member.text(&["role", "add", "app"]);
    for range in [
        &["readwrite", "app/", "--prefix"][..],
        &["read", "x", "--from-key"],
        &["write", "b", "d"],
    ] {
        member.text(&[&["role", "grant-permission", "app"], range].concat());
    }
    assert_eq!(
        member.text(&["role", "get", "app"]),
        "readwrite app/*\nwrite [b, d)\nread [x, end)\n"
    );
    member.text(&["user", "grant-role", "ann", "app"]);
    assert_eq!(
        member.json(&["user", "get", "ann"])["roles"],
        serde_json::json!(["app"])
    );
    assert_eq!(member.text(&["auth", "enable"]), "authentication enabled\n");
    let refused = |arguments: &[&str], text: &str| {
        let output = member.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
        assert!(said.contains(text), "{arguments:?}: {said}");
    };
    refused(&["get", "app/1"], "user name is empty");
    refused(
        &["--user", "ann:x", "get", "app/1"],
        "authentication failed",
    );
    // Who refuses has answered: nobody is to look whether it runs.
    let status = member.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&status.stderr),
        "error: etcdserver: user name is empty\n"
    );
    refused(
        &["--user", "ann:ann's", "doctor", "--no-disk"],
        "permission denied: doctor needs a user with the role root",
    );
    refused(
        &["--user", "ann:ann's", "put", "z", "1"],
        "permission denied",
    );
    assert_eq!(
        member.text(&["put", "app/1", "v", "--user", "ann:ann's"]),
        "OK\n"
    );
    let asked = member.run_with(&["get", "app/1", "--user", "ann"], "ann's\n");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "app/1\nv\n");
    let root = ["--user", "root", "--password", "root's"];
    let as_root = |arguments: &[&str]| member.text(&[&root, arguments].concat());
    assert_eq!(as_root(&["user", "list"]), "ann\nroot\n");
    assert!(as_root(&["status"]).contains("leader"));
    as_root(&["user", "passwd", "ann", "--new-password", "new"]);
    refused(
        &["--user", "ann:ann's", "get", "app/1"],
        "authentication failed",
    );
    as_root(&["role", "revoke-permission", "app", "app/", "--prefix"]);
    refused(&["--user", "ann:new", "get", "app/1"], "permission denied");
    as_root(&["auth", "disable"]);
    assert_eq!(member.text(&["get", "app/1"]), "app/1\nv\n");
}
