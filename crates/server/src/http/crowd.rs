//! What becomes of a connection when there are too many: its client is told so, and it is closed soon after.

use crate::Metrics;
use crate::grpc::body::Body;
use crate::grpc::wire;
use etcd::{Code, Status};
use http::{Response, StatusCode};
use std::time::{Duration, Instant};

/// Connections above the limit at the same time that are told why; further ones are closed without a word.
const TURNED_AWAY_MAX: usize = 64;
/// How long one that is turned away may stay to hear of it.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);
/// The log is told again after this.
const WARN_INTERVAL: Duration = Duration::from_secs(60);

/// Where a connection belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Served.
    Inside,
    /// Shown the operators' pages, and nothing else.
    Pages,
    /// Every request of it hears that there are too many.
    TurnedAway {
        /// How many there may be.
        connections_max: usize,
    },
}

impl Place {
    /// What a request hears on a connection that is turned away.
    pub(super) fn refusal(self, is_grpc: bool) -> Option<Response<Body>> {
        let Place::TurnedAway { connections_max } = self else {
            return None;
        };
        let text = format!(
            "synod: too many connections, this member takes {connections_max} at most; try another"
        );
        Some(if is_grpc {
            wire::refuse(&Status::new(Code::ResourceExhausted, text))
        } else {
            let body = axum::body::Body::from(format!("{text}\n"));
            let mut response = Response::new(Body::Page(body));
            *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
            response
        })
    }
}

/// Holds connections to their limit.
pub(super) struct Crowd {
    connections_max: usize,
    warned: Option<Instant>,
}

impl Crowd {
    pub(super) fn new(connections_max: usize) -> Crowd {
        Crowd {
            connections_max,
            warned: None,
        }
    }

    /// Where a new connection belongs beside so many others; `None`: nowhere.
    pub(super) fn place(&mut self, others: usize, metrics: &Metrics) -> Option<Place> {
        let connections_max = self.connections_max;
        if others < connections_max {
            return Some(Place::Inside);
        }
        metrics.connections_refused.inc();
        if self.warned.is_none_or(|at| at.elapsed() > WARN_INTERVAL) {
            self.warned = Some(Instant::now());
            tracing::warn!(
                connections_max,
                "client connections are turned away: raise connections-max or look for clients that do not close theirs"
            );
        }
        (others < connections_max + TURNED_AWAY_MAX)
            .then_some(Place::TurnedAway { connections_max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_above_the_limit_are_turned_away_and_counted() {
        let (mut crowd, metrics) = (Crowd::new(2), Metrics::default());
        let away = Place::TurnedAway { connections_max: 2 };
        assert_eq!(crowd.place(1, &metrics), Some(Place::Inside));
        assert_eq!(crowd.place(2, &metrics), Some(away));
        assert_eq!(crowd.place(2 + TURNED_AWAY_MAX, &metrics), None);
        assert_eq!(metrics.connections_refused.get(), 2);
        let told = away.refusal(true).expect("it is told");
        assert_eq!(told.headers()["grpc-status"], "8");
        let told = away.refusal(false).expect("it is told");
        assert_eq!(told.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(Place::Inside.refusal(true).is_none());
    }
}
