//! TLS of the two ports: where its certificates come from, how they are renewed while connections live, and how a connection is let in.

mod admission;
mod live;
mod self_signed;
mod settings;
mod stream;

pub(crate) use admission::{Admission, Admitted, Places, Refusals, answer_mismatched, see_off};
pub(crate) use live::LiveTls;
pub(crate) use self_signed::host;
pub use settings::PortTls;
pub(crate) use stream::Stream;

use crate::Metrics;
use crate::config::Config;
use crate::server::StartError;
use std::sync::Arc;

/// A port of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    /// For clients.
    Client,
    /// For the other members.
    Peer,
}

impl Port {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Port::Client => "client",
            Port::Peer => "peer",
        }
    }
}

/// The certificates of both ports; `None` for one without TLS.
#[derive(Clone)]
pub(crate) struct Certificates {
    pub(crate) client: Option<Arc<LiveTls>>,
    pub(crate) peer: Option<Arc<LiveTls>>,
}

impl Certificates {
    /// Reads them all and checks them.
    ///
    /// # Errors
    /// A file cannot be used; the text says which and why.
    pub(crate) fn load(
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<Certificates, StartError> {
        let load = |port| -> Result<Option<Arc<LiveTls>>, StartError> {
            let credentials = match config.tls(port) {
                PortTls::Off => return Ok(None),
                PortTls::Files(credentials) => (**credentials).clone(),
                PortTls::SelfSigned(protocol) => {
                    self_signed::credentials(config, port, protocol.clone())?
                }
            };
            let live = LiveTls::load(port, credentials, metrics.clone())
                .map_err(|error| StartError::Tls(error.0))?;
            Ok(Some(Arc::new(live)))
        };
        Ok(Certificates {
            client: load(Port::Client)?,
            peer: load(Port::Peer)?,
        })
    }

    /// Looks after the files until dropped.
    pub(crate) async fn renew(self) {
        let renew = async |live: Option<Arc<LiveTls>>| {
            if let Some(live) = live {
                live.renew().await;
            }
        };
        tokio::join!(renew(self.client), renew(self.peer));
    }
}
