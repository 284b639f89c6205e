//! Sends spans to a collector, a call for all that gathered meanwhile. A collector that does not answer costs spans, never requests.

use super::otlp::{self, ExportRequest, ExportResponse};
use super::{Span, TraceSettings};
use crate::Metrics;
use http::uri::PathAndQuery;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;
use tracing::{info, warn};

/// How long spans gather before they are sent together.
const GATHERING: Duration = Duration::from_millis(200);
/// Spans in one call at most.
const SPANS_PER_CALL_MAX: usize = 1024;
/// How long a call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends what comes until nobody can send any more.
pub(super) async fn run(
    settings: TraceSettings,
    mut queue: mpsc::Receiver<Span>,
    metrics: Arc<Metrics>,
) {
    let collector = settings.collector.clone();
    let endpoint = match Endpoint::from_shared(format!("http://{collector}")) {
        Ok(endpoint) => endpoint.connect_timeout(CALL_TIMEOUT),
        Err(error) => return warn!(collector, %error, "traces cannot be sent"),
    };
    let channel = endpoint.connect_lazy();
    let mut failing = false;
    let mut spans = Vec::new();
    while queue.recv_many(&mut spans, SPANS_PER_CALL_MAX).await > 0 {
        tokio::time::sleep(GATHERING).await;
        while spans.len() < SPANS_PER_CALL_MAX
            && let Ok(span) = queue.try_recv()
        {
            spans.push(span);
        }
        let count = spans.len() as u64;
        let request = otlp::request(&settings, std::mem::take(&mut spans));
        let sent = tokio::time::timeout(CALL_TIMEOUT, send(channel.clone(), request)).await;
        let sent = sent.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
        match sent {
            Ok(()) => {
                metrics.trace_spans_sent.add(count);
                if std::mem::take(&mut failing) {
                    info!(collector, "traces are taken again");
                }
            }
            Err(status) => {
                metrics.trace_spans_dropped.add(count);
                if !std::mem::replace(&mut failing, true) {
                    warn!(collector, %status, "traces are not taken, they are dropped until they are");
                }
            }
        }
    }
}

async fn send(channel: Channel, request: ExportRequest) -> Result<(), Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    let unready = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    grpc.ready().await.map_err(unready)?;
    let codec = ProstCodec::<ExportRequest, ExportResponse>::default();
    let path = PathAndQuery::from_static(otlp::PATH);
    grpc.unary(Request::new(request), path, codec).await?;
    Ok(())
}
