//! Versions and cipher suites, under the names that etcd and Go give them.

use rustls::crypto::CryptoProvider;
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use std::fmt;

/// The versions, oldest first.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLS1.2", &version::TLS12), ("TLS1.3", &version::TLS13)];

/// Which versions and suites are spoken. The default is all that is sane: TLS 1.2 and 1.3 with forward secrecy and authenticated encryption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Protocol {
    /// Places in [`VERSIONS`]; `None` is all.
    versions: Option<(usize, usize)>,
    /// Names of suites; none for a version is all of that version: Go, whose flags these are, lets nobody choose those of TLS 1.3.
    suites: Vec<String>,
}

/// What is wrong with a version or a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// The lowest version.
    Lowest(String),
    /// The highest version.
    Highest(String),
    /// The suites.
    Suites(String),
}

impl Protocol {
    /// Reads names of versions (`TLS1.2`, `TLS1.3`) and of suites, as etcd's flags have them; empty ones leave the choice to the default.
    ///
    /// # Errors
    /// A name is not known, or nothing is left to speak.
    pub fn parse(lowest: &str, highest: &str, suites: &[&str]) -> Result<Protocol, ProtocolError> {
        let low = place(lowest, 0).map_err(ProtocolError::Lowest)?;
        let high = place(highest, VERSIONS.len() - 1).map_err(ProtocolError::Highest)?;
        if low > high {
            return Err(ProtocolError::Highest(format!(
                "{highest} is below the lowest version, {lowest}; nothing would be spoken"
            )));
        }
        let protocol = Protocol {
            versions: Some((low, high)),
            suites: suites.iter().map(|suite| (*suite).to_owned()).collect(),
        };
        let known = crate::provider().cipher_suites;
        for suite in suites {
            if !known.iter().any(|known| name(known) == plain(suite)) {
                let names: Vec<String> = known.iter().map(name).collect();
                return Err(ProtocolError::Suites(format!(
                    "{suite} is not offered (unknown, or not safe enough); known are {}",
                    names.join(", ")
                )));
            }
        }
        for (version, supported) in &VERSIONS[low..=high] {
            let chosen = protocol.provider();
            if !chosen
                .cipher_suites
                .iter()
                .any(|suite| suite.version() == *supported)
            {
                return Err(ProtocolError::Suites(format!(
                    "none of them is for {version}; add one, or leave that version out with --tls-min-version or --tls-max-version"
                )));
            }
        }
        Ok(protocol)
    }

    /// The versions as rustls wants them.
    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let (low, high) = self.versions.unwrap_or((0, VERSIONS.len() - 1));
        VERSIONS[low..=high]
            .iter()
            .map(|(_, version)| *version)
            .collect()
    }

    /// The cryptography, reduced to the suites.
    pub(crate) fn provider(&self) -> CryptoProvider {
        let mut provider = crate::provider();
        let wanted = |suite: &SupportedCipherSuite| {
            self.suites
                .iter()
                .any(|wanted| plain(wanted) == name(suite))
        };
        let newest = |suite: &SupportedCipherSuite| suite.version() == &version::TLS13;
        let all_newest = !provider
            .cipher_suites
            .iter()
            .any(|suite| newest(suite) && wanted(suite));
        if !self.suites.is_empty() {
            provider
                .cipher_suites
                .retain(|suite| wanted(suite) || (newest(suite) && all_newest));
        }
        provider
    }
}

fn place(text: &str, default: usize) -> Result<usize, String> {
    if text.is_empty() {
        return Ok(default);
    }
    VERSIONS
        .iter()
        .position(|(name, _)| *name == text)
        .ok_or_else(|| format!("{text:?} is not spoken; TLS1.2 and TLS1.3 are"))
}

/// A suite's name as the standards have it; the library below says `TLS13_` where they say `TLS_`.
fn name(suite: &SupportedCipherSuite) -> String {
    let name = suite.suite().as_str().unwrap_or_default();
    name.strip_prefix("TLS13_")
        .map_or_else(|| name.to_owned(), |rest| format!("TLS_{rest}"))
}

/// Go knows two suites by a shorter name too.
fn plain(suite: &str) -> &str {
    match suite {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        other => other,
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolError::Lowest(text)
            | ProtocolError::Highest(text)
            | ProtocolError::Suites(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ProtocolError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_have_etcds_names() {
        let versions = |low, high| Protocol::parse(low, high, &[]).map(|p| p.versions().len());
        assert_eq!(versions("", ""), Ok(2));
        assert_eq!(versions("TLS1.3", ""), Ok(1));
        assert_eq!(versions("", "TLS1.2"), Ok(1));
        assert!(
            matches!(versions("TLS1.1", ""), Err(ProtocolError::Lowest(text)) if text.contains("TLS1.2 and TLS1.3"))
        );
        assert!(
            matches!(versions("TLS1.3", "TLS1.2"), Err(ProtocolError::Highest(text)) if text.contains("below"))
        );
    }

    #[test]
    fn suites_have_gos_names_and_weak_ones_are_refused() {
        let suites = |suites: &[&str]| {
            Protocol::parse("TLS1.2", "TLS1.2", suites).map(|p| p.provider().cipher_suites.len())
        };
        assert_eq!(
            suites(&[
                "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305"
            ]),
            // And the three of TLS 1.3.
            Ok(5)
        );
        assert!(
            matches!(suites(&["TLS_RSA_WITH_AES_128_CBC_SHA"]), Err(ProtocolError::Suites(text)) if text.contains("TLS_AES_128_GCM_SHA256"))
        );
        assert!(
            matches!(suites(&["TLS_AES_128_GCM_SHA256"]), Err(ProtocolError::Suites(text)) if text.contains("for TLS1.2"))
        );
    }
}
