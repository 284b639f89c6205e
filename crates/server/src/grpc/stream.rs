//! What the streaming calls share: statuses in tonic's form, and noting how each stream ended.

use super::method::Method;
use crate::http::metrics::Metrics;
use etcd::{Code, Status};
use std::sync::Arc;
use std::time::Instant;

/// A refusal in tonic's form.
pub(crate) fn tonic_status(status: &Status) -> tonic::Status {
    tonic::Status::new(
        tonic::Code::from_i32(status.code as i32),
        status.text.clone(),
    )
}

/// Notes in the metrics how a stream ended; one that is dropped was given up by its client.
pub(crate) struct Ended {
    metrics: Arc<Metrics>,
    method: Method,
    begun: Instant,
    noted: bool,
}

impl Ended {
    /// For a stream that begins now.
    pub fn new(metrics: Arc<Metrics>, method: Method) -> Ended {
        Ended {
            metrics,
            method,
            begun: Instant::now(),
            noted: false,
        }
    }

    /// It ended with this status, which is given back.
    pub fn with(&mut self, status: tonic::Status) -> tonic::Status {
        self.note(status.code() as usize);
        status
    }

    /// It ended in good order.
    pub fn well(&mut self) {
        self.note(0);
    }

    fn note(&mut self, code: usize) {
        if !std::mem::replace(&mut self.noted, true) {
            self.metrics
                .handled(self.method, code, self.begun.elapsed());
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.note(Code::Canceled as usize);
    }
}
