//! The certificates of a running port. New files count from the next connection on; connections that live go on with what they began with.

use super::Port;
use crate::Metrics;
use arc_swap::ArcSwap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tls::rustls::{ClientConfig, ServerConfig};
use tls::{Contents, Credentials, Error, Summary};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info, warn};

/// How often the files are read. They are small; watching them instead would miss files that are changed by turning a link.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// From when on an operator hears that a certificate will expire, and how often.
const EXPIRY_NEAR: Duration = Duration::from_secs(14 * 86_400);
const EXPIRY_LOG_INTERVAL: Duration = Duration::from_secs(86_400);

/// The certificates of one port as they are now.
pub(crate) struct LiveTls {
    port: Port,
    credentials: Credentials,
    current: ArcSwap<Current>,
    metrics: Arc<Metrics>,
}

struct Current {
    contents: Contents,
    accepting: Arc<ServerConfig>,
    dialling: Arc<ClientConfig>,
    summary: Summary,
}

impl LiveTls {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// One cannot be used; the text says which and why.
    pub(crate) fn load(
        port: Port,
        credentials: Credentials,
        metrics: Arc<Metrics>,
    ) -> Result<LiveTls, Error> {
        for what in credentials.unwise() {
            warn!(
                port = port.name(),
                what, "certificates could be kept better"
            );
        }
        let current = make(port, &credentials, credentials.read()?)?;
        let live = LiveTls {
            port,
            credentials,
            current: ArcSwap::from_pointee(current),
            metrics,
        };
        live.note_expiry();
        Ok(live)
    }

    /// What a connection accepted now is to be held to.
    pub(crate) fn accepting(&self) -> Arc<ServerConfig> {
        self.current.load().accepting.clone()
    }

    /// The same for one that is dialled now.
    pub(crate) fn dialling(&self) -> Arc<ClientConfig> {
        self.current.load().dialling.clone()
    }

    /// Whether those who connect must show a certificate.
    pub(crate) fn demands_certificates(&self) -> bool {
        matches!(self.credentials.trust, tls::Trust::File(_))
    }

    /// Reads the files again and again, and takes them once they are good. A pair is seldom replaced in one step, so what is wrong is
    /// said only when it is still so at the next look, and then once.
    pub(crate) async fn renew(self: Arc<Self>) {
        let mut clock = interval(READ_INTERVAL);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut wrong: Option<(String, u32)> = None;
        let mut reminded = Instant::now();
        loop {
            clock.tick().await;
            let reading = self.clone();
            // Certificates may lie on a file system that hangs.
            let Ok(outcome) = tokio::task::spawn_blocking(move || reading.reread()).await else {
                continue;
            };
            match outcome {
                Ok(renewed) => {
                    if let Some(renewed) = renewed {
                        self.take(renewed);
                        reminded = Instant::now();
                    } else if wrong.is_some_and(|(_, times)| times > 1) {
                        info!(port = self.port.name(), "certificates are good again");
                    }
                    wrong = None;
                }
                Err(Error(reason)) => {
                    let times = match &wrong {
                        Some((before, times)) if *before == reason => times + 1,
                        _ => 1,
                    };
                    if times == 2 {
                        self.metrics.certificate_failures.inc();
                        error!(
                            port = self.port.name(),
                            reason, "new certificates cannot be used, the previous ones stay"
                        );
                    }
                    wrong = Some((reason, times));
                }
            }
            if reminded.elapsed() >= EXPIRY_LOG_INTERVAL {
                reminded = Instant::now();
                self.note_expiry();
            }
        }
    }

    /// What the files say, if it differs from what holds.
    fn reread(&self) -> Result<Option<Current>, Error> {
        let contents = self.credentials.read()?;
        if contents == self.current.load().contents {
            return Ok(None);
        }
        make(self.port, &self.credentials, contents).map(Some)
    }

    fn take(&self, renewed: Current) {
        let (subject, until) = (&renewed.summary.subject, &renewed.summary.validity[1]);
        info!(
            port = self.port.name(),
            subject, until, "certificates renewed"
        );
        self.metrics.certificate_renewals.inc();
        self.current.store(Arc::new(renewed));
        self.note_expiry();
    }

    /// Notes when the certificate expires, and says so if that is near.
    fn note_expiry(&self) {
        let current = self.current.load();
        let since_epoch = current
            .summary
            .not_after
            .duration_since(SystemTime::UNIX_EPOCH);
        let gauge = match self.port {
            Port::Client => &self.metrics.client_certificate_expires,
            Port::Peer => &self.metrics.peer_certificate_expires,
        };
        gauge.set(since_epoch.map_or(0, |since| since.as_secs()));
        let until = &current.summary.validity[1];
        match current.summary.not_after.duration_since(SystemTime::now()) {
            Err(_) => error!(
                port = self.port.name(),
                until, "certificate has expired, whoever checks it will not connect"
            ),
            Ok(left) if left < EXPIRY_NEAR => {
                warn!(port = self.port.name(), until, "certificate expires soon");
            }
            Ok(_) => {}
        }
    }
}

fn make(port: Port, credentials: &Credentials, contents: Contents) -> Result<Current, Error> {
    Ok(Current {
        accepting: Arc::new(credentials.server(&contents, port == Port::Client)?),
        dialling: Arc::new(credentials.client(&contents, false)?),
        summary: credentials.summary(&contents)?,
        contents,
    })
}

impl fmt::Debug for LiveTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LiveTls").field("port", &self.port).finish()
    }
}
