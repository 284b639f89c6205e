//! A few minutes that show that the binary is whole: three members, real clients, deaths, and nothing lost. Part of `.ci/run`.

use crate::connection::{Connection, leader_of};
use crate::etcdctl::Etcdctl;
use crate::process::{Cluster, Program};
use crate::report::Report;
use crate::{Outcome, http, load};
use proto::etcdserverpb as pb;
use std::path::Path;
use std::time::{Duration, Instant};

/// Runs it. True when all held.
///
/// # Errors
/// When the members cannot even be started.
pub async fn run(program: &Path, directory: &Path) -> Outcome<bool> {
    let program = Program::at(program)?;
    let mut report = Report::default();
    let mut cluster = Cluster::start(&program, 3, directory, &[])?;
    report.note(format!("{} at {}", program.label(), cluster.endpoints()));
    for (at, address) in cluster.clients().into_iter().enumerate() {
        let ready = Connection::new(address)
            .ready(Duration::from_secs(30))
            .await;
        if report
            .step(&format!("member {} serves", at + 1), ready)
            .is_none()
        {
            report.note(cluster.log_tail(at, 20));
            return Ok(report.finish());
        }
    }
    pages(&mut report, &cluster).await;
    every_member_serves(&mut report, &cluster).await;
    gateway(&mut report, &cluster).await;
    etcdctl(&mut report, &cluster).await;
    python(&mut report, &cluster).await;
    own_commands(&mut report, &program, &cluster).await;
    follower_dies(&mut report, &mut cluster).await;
    leader_dies(&mut report, &mut cluster).await;
    all_die(&mut report, &mut cluster).await;
    graceful_stop(&mut report, &mut cluster).await;
    Ok(report.finish())
}

async fn pages(report: &mut Report, cluster: &Cluster) {
    let address = cluster.clients()[0];
    for (path, wanted) in [
        ("/health", "\"health\":\"true\""),
        ("/version", "\"etcdserver\":\"3."),
        ("/metrics", "etcd_server_has_leader"),
    ] {
        match http::request(address, path, None).await {
            Ok((status, body)) => {
                let compact: String = body.split(' ').collect();
                report.check(
                    path,
                    status == 200 && compact.contains(wanted),
                    format!("{status}, {}", body.lines().next().unwrap_or_default()),
                );
            }
            Err(error) => report.check(path, false, error),
        }
    }
}

async fn every_member_serves(report: &mut Report, cluster: &Cluster) {
    for (at, address) in cluster.clients().into_iter().enumerate() {
        let mut connection = Connection::new(address);
        let key = format!("smoke/{at}");
        report.step(
            &format!("put through member {}", at + 1),
            connection.put(&key, "here").await.map_err(Into::into),
        );
        let mut other = Connection::new(cluster.clients()[(at + 1) % 3]);
        let found = other.get(&key).await;
        report.check(
            "read through the next member",
            matches!(&found, Ok((Some((value, _)), _)) if value == "here"),
            format!("{found:?}"),
        );
        let members = connection
            .cluster
            .member_list(pb::MemberListRequest::default())
            .await
            .map(|list| list.into_inner().members.len());
        report.check(
            "member list",
            matches!(members, Ok(3)),
            format!("{members:?}"),
        );
    }
}

async fn gateway(report: &mut Report, cluster: &Cluster) {
    let address = cluster.clients()[1];
    // Keys and values in base64: "json", "value", "other".
    let calls = [
        (
            "/v3/kv/put",
            r#"{"key":"anNvbg==","value":"dmFsdWU="}"#,
            "\"revision\":\"",
        ),
        (
            "/v3/kv/range",
            r#"{"key":"anNvbg=="}"#,
            "\"value\":\"dmFsdWU=\"",
        ),
        (
            "/v3/kv/txn",
            r#"{"compare":[{"target":"VALUE","key":"anNvbg==","value":"dmFsdWU="}],"success":[{"requestPut":{"key":"anNvbg==","value":"b3RoZXI="}}]}"#,
            "\"succeeded\":true",
        ),
        (
            "/v3/kv/deleterange",
            r#"{"key":"anNvbg=="}"#,
            "\"deleted\":\"1\"",
        ),
        (
            "/v3/lease/grant",
            r#"{"TTL":"60","ID":"7000"}"#,
            "\"ID\":\"7000\"",
        ),
        (
            "/v3/lease/timetolive",
            r#"{"ID":"7000"}"#,
            "\"grantedTTL\":\"60\"",
        ),
        ("/v3/lease/revoke", r#"{"ID":"7000"}"#, "\"header\""),
    ];
    for (path, body, wanted) in calls {
        match http::request(address, path, Some(body)).await {
            Ok((status, answer)) => report.check(
                path,
                status == 200 && answer.contains(wanted),
                format!("{status}, {}", answer.trim_end()),
            ),
            Err(error) => report.check(path, false, error),
        }
    }
    match http::request(address, "/v3/kv/put", Some("{ nonsense")).await {
        Ok((status, answer)) => report.check(
            "nonsense to the gateway",
            status == 400,
            format!("{status}, {}", answer.trim_end()),
        ),
        Err(error) => report.check("nonsense to the gateway", false, error),
    }
}

async fn etcdctl(report: &mut Report, cluster: &Cluster) {
    let Some(etcdctl) = Etcdctl::find(&cluster.endpoints()) else {
        report.skip("etcdctl", "it is not installed (Debian: etcd-client)");
        return;
    };
    let limit = Duration::from_secs(10);
    let calls: [(&[&str], &str, &str); 10] = [
        (&["put", "ctl/a", "1"], "", "OK"),
        (&["put", "ctl/b", "2"], "", "OK"),
        (&["get", "--prefix", "ctl/"], "", "ctl/a\n1\nctl/b\n2"),
        (
            &["txn"],
            "value(\"ctl/a\") = \"1\"\n\nput ctl/c 3\nget ctl/a\n\nput ctl/c 4\n\n",
            "SUCCESS\n\nOK\n\nctl/a\n1",
        ),
        (&["get", "ctl/c", "--print-value-only"], "", "3"),
        (&["del", "--prefix", "ctl/b"], "", "1"),
        (&["lease", "grant", "60"], "", "granted with TTL(60s)"),
        (&["endpoint", "health"], "", ""),
        (&["endpoint", "status", "-w", "simple"], "", "127.0.0.1"),
        (&["member", "list"], "", "started, n1"),
    ];
    for (arguments, input, wanted) in calls {
        match etcdctl.call(arguments, input, limit).await {
            Ok(called) => {
                let seen = format!(
                    "{} {}",
                    called.output.replace('\n', " | "),
                    called.error.replace('\n', " | ")
                );
                report.check(
                    &format!("etcdctl {}", arguments.join(" ")),
                    called.success && called.output.contains(wanted),
                    seen.trim(),
                );
            }
            Err(error) => report.check("etcdctl", false, error),
        }
    }
    // History from a revision on, and live changes, in one stream.
    let watch = etcdctl.follow(
        &["watch", "ctl/a", "--rev", "1", "--prev-kv"],
        "DELETE",
        limit,
    );
    let delete = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        etcdctl.call(&["del", "ctl/a"], "", limit).await
    };
    let (watched, deleted) = tokio::join!(watch, delete);
    report.check(
        "etcdctl del ctl/a",
        matches!(&deleted, Ok(called) if called.success),
        format!("{deleted:?}"),
    );
    match watched {
        Ok(watched) => {
            let whole = watched.output.starts_with("PUT\n")
                && watched.output.contains("\n1\n")
                && watched.success;
            report.check(
                "etcdctl watch shows history, then the deletion",
                whole,
                watched.output.replace('\n', " | "),
            );
        }
        Err(error) => report.check("etcdctl watch", false, error),
    }
}

async fn python(report: &mut Report, cluster: &Cluster) {
    const SCRIPT: &str = "import sys, etcd3\nh, p = sys.argv[1].split(':')\nc = etcd3.client(host=h, port=int(p), timeout=5)\nc.put('py/a', 'one')\nassert c.get('py/a')[0] == b'one'\n\
        l = c.lease(30)\nc.put('py/b', 'two', l)\nassert len(list(c.get_prefix('py/'))) == 2\nl.revoke()\nassert c.get('py/b')[0] is None\nprint('ok')\n";
    let known = tokio::process::Command::new("python3")
        .args(["-c", "import etcd3"])
        .output()
        .await;
    if !known.is_ok_and(|output| output.status.success()) {
        report.skip(
            "python etcd3",
            "not installed (pip install etcd3 'protobuf<4')",
        );
        return;
    }
    let run = tokio::process::Command::new("python3")
        .args(["-c", SCRIPT, &cluster.clients()[2].to_string()])
        .output()
        .await;
    let seen = run.map(|output| {
        format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )
    });
    report.check(
        "python etcd3",
        matches!(&seen, Ok(text) if text.trim() == "ok"),
        format!("{seen:?}"),
    );
}

async fn own_commands(report: &mut Report, program: &Program, cluster: &Cluster) {
    if program.product == crate::process::Product::Etcd {
        report.skip("synod put, get, del", "the binary is etcd");
        return;
    }
    let endpoints = cluster.endpoints();
    for (arguments, wanted) in [
        (vec!["put", "own/a", "1"], ""),
        (vec!["get", "own/a"], "1"),
        (vec!["del", "own/a"], "1"),
        (vec!["status"], "leader"),
    ] {
        let call = tokio::process::Command::new(&program.path)
            .args(&arguments)
            .args(["--endpoints", &endpoints])
            .output();
        match tokio::time::timeout(Duration::from_secs(10), call).await {
            Ok(Ok(output)) => {
                let text = String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr);
                report.check(
                    &format!("synod {}", arguments.join(" ")),
                    output.status.success() && text.contains(wanted),
                    text.trim().replace('\n', " | "),
                );
            }
            Ok(Err(error)) => report.check("synod", false, error),
            Err(_) => report.check(
                &format!("synod {}", arguments.join(" ")),
                false,
                "no end within 10 s",
            ),
        }
    }
}

async fn follower_dies(report: &mut Report, cluster: &mut Cluster) {
    let Some(leader) = report.step(
        "a leader is known",
        leader_of(&cluster.clients(), Duration::from_secs(10)).await,
    ) else {
        return;
    };
    let victim = (leader + 1) % 3;
    cluster.kill(victim);
    let mut connection = Connection::new(cluster.clients()[leader]);
    let put = tokio::time::timeout(
        Duration::from_secs(3),
        connection.put("smoke/follower", "down"),
    )
    .await;
    report.check(
        "writes go on without a follower",
        matches!(put, Ok(Ok(_))),
        format!("{put:?}"),
    );
    report.step(
        "more writes",
        load::fill(&[cluster.clients()[leader]], "smoke/many/", 5_000, 256).await,
    );
    report.step("the follower starts", cluster.start_member(victim));
    report.step(
        "the follower serves again",
        Connection::new(cluster.clients()[victim])
            .ready(Duration::from_secs(30))
            .await,
    );
    let read = Connection::new(cluster.clients()[victim])
        .get("smoke/follower")
        .await;
    report.check(
        "and has what it missed",
        matches!(&read, Ok((Some((value, _)), _)) if value == "down"),
        format!("{read:?}"),
    );
}

async fn leader_dies(report: &mut Report, cluster: &mut Cluster) {
    let Some(leader) = report.step(
        "a leader is known",
        leader_of(&cluster.clients(), Duration::from_secs(10)).await,
    ) else {
        return;
    };
    cluster.kill(leader);
    let since = Instant::now();
    let mut connection = Connection::new(cluster.clients()[(leader + 1) % 3]);
    let mut acknowledged = None;
    while acknowledged.is_none() && since.elapsed() < Duration::from_secs(20) {
        match tokio::time::timeout(
            Duration::from_secs(1),
            connection.put("smoke/leader", "down"),
        )
        .await
        {
            Ok(Ok(_)) => acknowledged = Some(since.elapsed()),
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    report.check(
        "a new leader takes writes",
        acknowledged.is_some(),
        format!("after {acknowledged:?}"),
    );
    report.step("the old leader starts", cluster.start_member(leader));
    report.step(
        "the old leader serves again",
        Connection::new(cluster.clients()[leader])
            .ready(Duration::from_secs(30))
            .await,
    );
}

async fn all_die(report: &mut Report, cluster: &mut Cluster) {
    let mut connection = Connection::new(cluster.clients()[0]);
    let last = connection.put("smoke/power", "on").await;
    report.check(
        "a write before the power goes",
        last.is_ok(),
        format!("{last:?}"),
    );
    cluster.kill_all();
    for at in 0..3 {
        report.step("a member starts", cluster.start_member(at));
    }
    let mut hashes = Vec::new();
    let revision = last.unwrap_or(0);
    for address in cluster.clients() {
        let mut connection = Connection::new(address);
        report.step(
            "a member serves again",
            connection.ready(Duration::from_secs(30)).await,
        );
        let read = connection.get("smoke/power").await;
        report.check(
            "the write is there",
            matches!(&read, Ok((Some((value, _)), _)) if value == "on"),
            format!("{read:?}"),
        );
        let hash = connection
            .maintenance
            .hash_kv(pb::HashKvRequest { revision })
            .await;
        hashes.push(
            hash.map(|hash| hash.into_inner().hash)
                .map_err(|status| status.message().to_string()),
        );
    }
    report.check(
        "all members hold the same",
        hashes.iter().all(|hash| hash.is_ok() && *hash == hashes[0]),
        format!("{hashes:?}"),
    );
}

async fn graceful_stop(report: &mut Report, cluster: &mut Cluster) {
    for at in 0..3 {
        let stopped = cluster.stop(at, Duration::from_secs(15));
        report.step(&format!("member {} stops when asked", at + 1), stopped);
    }
}
