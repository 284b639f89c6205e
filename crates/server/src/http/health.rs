//! Health checks, as etcd answers them: `/health` in its older form, `/livez` and `/readyz` made of named checks.

use super::Server;
use super::metrics::Text;
use crate::{Counter, Gauge};
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use etcd::{Code, Status};
use http::{StatusCode, Uri, header};
use replica::Consistency;
use state::AlarmKind;
use std::sync::Arc;
use std::time::Duration;

/// What a check waits at most.
const CHECK_TIMEOUT: Duration = Duration::from_secs(7);

/// One thing that must be in order.
#[derive(Clone, Copy)]
struct Check {
    name: &'static str,
    what: What,
}

#[derive(Clone, Copy)]
enum What {
    /// No member's data is in doubt.
    NoCorruption,
    /// This member answers from what it has.
    LocalRead,
    /// There is a majority behind it.
    ConfirmedRead,
    /// It votes.
    NonLearner,
}

const LOCAL_READ: Check = Check {
    name: "serializable_read",
    what: What::LocalRead,
};

/// A page and the checks it is made of.
struct Page {
    name: &'static str,
    checks: &'static [Check],
}

/// Whether the process should live on, and whether it should be given work.
const PAGES: [Page; 2] = [
    Page {
        name: "livez",
        checks: &[LOCAL_READ],
    },
    Page {
        name: "readyz",
        checks: &[
            Check {
                name: "data_corruption",
                what: What::NoCorruption,
            },
            LOCAL_READ,
            Check {
                name: "linearizable_read",
                what: What::ConfirmedRead,
            },
            Check {
                name: "non_learner",
                what: What::NonLearner,
            },
        ],
    },
];

/// How often each check was made, and how the last one ended.
#[derive(Default)]
struct Counts {
    success: Counter,
    error: Counter,
    last: Gauge,
}

/// Counts health checks.
#[derive(Default)]
pub(crate) struct HealthMetrics {
    success: Counter,
    failures: Counter,
    /// By page, then by check.
    checks: [[Counts; 4]; PAGES.len()],
}

impl HealthMetrics {
    /// Writes all of it.
    pub fn write(&self, text: &mut Text) {
        text.counter(
            "etcd_server_health_success",
            "Health checks answered well.",
            self.success.get(),
        );
        text.counter(
            "etcd_server_health_failures",
            "Health checks answered badly.",
            self.failures.get(),
        );
        let made = || {
            let pages = PAGES.iter().zip(&self.checks);
            let checks = pages.flat_map(|(page, counts)| {
                let labelled = page.checks.iter().zip(counts);
                labelled.map(|(check, counts)| {
                    let labels = format!("name=\"{}\",type=\"{}\"", check.name, page.name);
                    (labels, counts)
                })
            });
            checks.filter(|(_, counts)| counts.success.get() + counts.error.get() > 0)
        };
        let (gauge, counter) = ("etcd_server_healthcheck", "etcd_server_healthchecks_total");
        text.family(gauge, "gauge", "How the last check of each kind ended.");
        for (labels, counts) in made() {
            text.sample(gauge, &labels, counts.last.get());
        }
        text.family(counter, "counter", "Checks of each kind.");
        for (labels, counts) in made() {
            let outcomes = [("error", &counts.error), ("success", &counts.success)];
            for (status, count) in outcomes.into_iter().filter(|(_, count)| count.get() > 0) {
                text.sample(
                    counter,
                    &format!("{labels},status=\"{status}\""),
                    count.get(),
                );
            }
        }
    }
}

/// The pages' routes.
pub(crate) fn router() -> Router<Arc<Server>> {
    let mut router = Router::new().route("/health", get(health));
    for (number, page) in PAGES.iter().enumerate() {
        let whole = move |State(server): State<Arc<Server>>, uri: Uri| async move {
            answer(&server, number, &uri, None).await
        };
        router = router.route(&format!("/{}", page.name), get(whole));
        for check in page.checks {
            let alone = move |State(server): State<Arc<Server>>, uri: Uri| async move {
                answer(&server, number, &uri, Some(check.name)).await
            };
            router = router.route(&format!("/{}/{}", page.name, check.name), get(alone));
        }
    }
    router
}

async fn health(State(server): State<Arc<Server>>, uri: Uri) -> Response {
    let serializable = values(&uri, "serializable").next() == Some("true");
    let mut alarms = server
        .services
        .door
        .alarms()
        .into_iter()
        .map(etcd::alarm_kind);
    let alarm = alarms.find(|kind| !values(&uri, "exclude").any(|excluded| excluded == *kind));
    let reason = if let Some(kind) = alarm {
        Some(format!("ALARM {kind}"))
    } else if !serializable && server.services.door.handle.status().raft.leader.is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        read(&server, serializable)
            .await
            .err()
            .map(|status| format!("RANGE ERROR:{}", status.text))
    };
    let counts = &server.services.metrics.health;
    match reason {
        None => {
            counts.success.inc();
            text(StatusCode::OK, r#"{"health":"true","reason":""}"#.into())
        }
        Some(reason) => {
            counts.failures.inc();
            let body = serde_json::json!({ "health": "false", "reason": reason });
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{body}\n"))
        }
    }
}

/// Makes the checks of a page, or one of them, and answers in words if one failed or somebody asks.
async fn answer(server: &Server, page: usize, uri: &Uri, alone: Option<&str>) -> Response {
    let mut words = String::new();
    let mut good = true;
    let counts = &server.services.metrics.health.checks[page];
    for (check, counts) in PAGES[page].checks.iter().zip(counts) {
        let wanted = match alone {
            Some(name) => check.name == name,
            None => !values(uri, "exclude").any(|excluded| excluded == check.name),
        };
        if !wanted {
            continue;
        }
        match check.what.judge(server).await {
            Ok(()) => {
                counts.success.inc();
                counts.last.set(1);
                words += &format!("[+]{} ok\n", check.name);
            }
            Err(status) => {
                good = false;
                counts.error.inc();
                counts.last.set(0);
                words += &format!("[-]{} failed: {}\n", check.name, status.text);
            }
        }
    }
    if !good {
        return text(StatusCode::SERVICE_UNAVAILABLE, words + "\n");
    }
    if values(uri, "verbose").next().is_none() {
        words.clear();
    }
    text(StatusCode::OK, words + "ok\n")
}

impl What {
    async fn judge(self, server: &Server) -> Result<(), Status> {
        let door = &server.services.door;
        match self {
            What::LocalRead => read(server, true).await,
            What::ConfirmedRead => read(server, false).await,
            What::NoCorruption => {
                let mut alarms = door.alarms().into_iter();
                match alarms.any(|alarm| alarm.kind == AlarmKind::Corrupt) {
                    true => Err(Status::new(Code::DataLoss, "alarm activated: CORRUPT")),
                    false => Ok(()),
                }
            }
            What::NonLearner => {
                let raft = &door.handle.status().raft;
                match raft.configuration.learners.contains(&raft.id) {
                    true => Err(Status::new(Code::Unavailable, "not supported for learner")),
                    false => Ok(()),
                }
            }
        }
    }
}

async fn read(server: &Server, serializable: bool) -> Result<(), Status> {
    let consistency = if serializable {
        Consistency::Local
    } else {
        Consistency::Linearizable
    };
    let handle = &server.services.door.handle;
    let read = handle.read(consistency, state::Query::Position);
    match tokio::time::timeout(CHECK_TIMEOUT, read).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(failure)) => Err(crate::grpc::failure::status(failure)),
        Err(_) => Err(Status::TIMED_OUT),
    }
}

fn text(code: StatusCode, words: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (code, headers, words).into_response()
}

/// The values given for a part of the query; an empty one for a part without a value.
fn values<'a>(uri: &'a Uri, name: &'a str) -> impl Iterator<Item = &'a str> {
    let parts = uri.query().unwrap_or_default().split('&');
    parts.filter_map(move |part| match part.split_once('=') {
        Some((given, value)) => (given == name).then_some(value),
        None => (part == name).then_some(""),
    })
}
