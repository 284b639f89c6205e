//! The settings of TLS, under etcd's names, made into what a port shows and whom it trusts.

use super::Port;
use crate::config::{ConfigError, Settings};
use std::path::PathBuf;
use tls::{Allowed, Credentials, Pair, Protocol, ProtocolError, Source, Trust};

/// Whether and how a port speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortTls {
    /// Not at all.
    Off,
    /// With certificates from files.
    Files(Box<Credentials>),
    /// With a certificate of the member's own making.
    SelfSigned(Protocol),
}

/// The settings of one port.
struct Names {
    certificate: Flag,
    key: Flag,
    authorities: Flag,
    demand: Flag,
    revoked: Flag,
    common_names: Option<Flag>,
    hosts: Flag,
    dialling: Option<[Flag; 2]>,
    own_making: Flag,
}

/// A setting: its name, and as a user writes it.
type Flag = (&'static str, &'static str);

const CLIENT: Names = Names {
    certificate: ("cert-file", "--cert-file"),
    key: ("key-file", "--key-file"),
    authorities: ("trusted-ca-file", "--trusted-ca-file"),
    demand: ("client-cert-auth", "--client-cert-auth"),
    revoked: ("client-crl-file", "--client-crl-file"),
    common_names: None,
    hosts: (
        "client-cert-allowed-hostname",
        "--client-cert-allowed-hostname",
    ),
    dialling: None,
    own_making: ("auto-tls", "--auto-tls"),
};

const PEER: Names = Names {
    certificate: ("peer-cert-file", "--peer-cert-file"),
    key: ("peer-key-file", "--peer-key-file"),
    authorities: ("peer-trusted-ca-file", "--peer-trusted-ca-file"),
    demand: ("peer-client-cert-auth", "--peer-client-cert-auth"),
    revoked: ("peer-crl-file", "--peer-crl-file"),
    common_names: Some(("peer-cert-allowed-cn", "--peer-cert-allowed-cn")),
    hosts: ("peer-cert-allowed-hostname", "--peer-cert-allowed-hostname"),
    dialling: Some([
        ("peer-client-cert-file", "--peer-client-cert-file"),
        ("peer-client-key-file", "--peer-client-key-file"),
    ]),
    own_making: ("peer-auto-tls", "--peer-auto-tls"),
};

impl Settings {
    /// How a port speaks TLS.
    ///
    /// # Errors
    /// Settings that make no sense together, with what to add or to leave out.
    pub(crate) fn tls(&self, port: Port) -> Result<PortTls, ConfigError> {
        let names = match port {
            Port::Client => &CLIENT,
            Port::Peer => &PEER,
        };
        let protocol = self.protocol()?;
        let own_making = self.switch(names.own_making.0)?;
        let demand = self.switch(names.demand.0)?;
        let Some(own) = self.pair(names.certificate, names.key)? else {
            if own_making {
                return Ok(PortTls::SelfSigned(protocol));
            }
            return self.without(names, demand);
        };
        let authorities = self.source(names.authorities);
        let trust = match authorities {
            Some(source) => Trust::File(source),
            None if demand => {
                return self.refuse(
                    names.demand.0,
                    format_args!(
                        "needs to know whose certificates are good; pass {} too",
                        names.authorities.1
                    ),
                );
            }
            None if port == Port::Peer => {
                return self.refuse(
                    names.certificate.0,
                    format_args!(
                        "members could not check each other; pass {} too (or {} alone, to check nothing)",
                        names.authorities.1, names.own_making.1
                    ),
                );
            }
            None => Trust::Anyone,
        };
        let allowed = self.allowed(names)?;
        let revoked = self.source(names.revoked);
        if trust == Trust::Anyone {
            let idle = [
                (names.revoked, revoked.is_some()),
                (names.hosts, allowed != Allowed::Everyone),
            ];
            if let Some(((name, _), _)) = idle.into_iter().find(|(_, set)| *set) {
                return self.refuse(
                    name,
                    format_args!(
                        "has no meaning while nobody shows a certificate; pass {} too",
                        names.authorities.1
                    ),
                );
            }
        }
        let dialling = match names.dialling {
            Some([certificate, key]) => self.pair(certificate, key)?,
            None => None,
        };
        Ok(PortTls::Files(Box::new(Credentials {
            own: Some(own),
            dialling,
            trust,
            revoked,
            allowed,
            protocol,
        })))
    }

    /// No certificate: then nothing else may be set either, or somebody believes that there is TLS.
    fn without(&self, names: &Names, demand: bool) -> Result<PortTls, ConfigError> {
        let set = |flag: &&Flag| self.named(flag.0).is_some();
        let mut idle = vec![&names.authorities, &names.revoked, &names.hosts];
        idle.extend(&names.common_names);
        idle.extend(names.dialling.iter().flatten());
        let idle = if demand {
            Some(&names.demand)
        } else {
            idle.into_iter().find(set)
        };
        match idle {
            None => Ok(PortTls::Off),
            Some((name, _)) => self.refuse(
                name,
                format_args!(
                    "has no meaning without a certificate; pass {} and {} too (`synod cert` makes them)",
                    names.certificate.1, names.key.1
                ),
            ),
        }
    }

    fn allowed(&self, names: &Names) -> Result<Allowed, ConfigError> {
        let hosts = self.list(names.hosts.0);
        let common_names = names
            .common_names
            .map_or_else(Vec::new, |(name, _)| self.list(name));
        match (common_names.is_empty(), hosts.is_empty()) {
            (true, true) => Ok(Allowed::Everyone),
            (false, true) => Ok(Allowed::CommonNames(common_names)),
            (true, false) => Ok(Allowed::Hosts(hosts)),
            (false, false) => self.refuse(
                names.hosts.0,
                "common names are allowed already, and a certificate is judged by one of the two; leave one out",
            ),
        }
    }

    fn protocol(&self) -> Result<Protocol, ConfigError> {
        let suites = self.list("cipher-suites");
        let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
        let [lowest, highest] = ["tls-min-version", "tls-max-version"].map(|name| self.text(name));
        Protocol::parse(lowest, highest, &suites).or_else(|error| {
            let name = match error {
                ProtocolError::Lowest(_) => "tls-min-version",
                ProtocolError::Highest(_) => "tls-max-version",
                ProtocolError::Suites(_) => "cipher-suites",
            };
            self.refuse(name, error)
        })
    }

    /// A certificate and its key: both or none.
    fn pair(&self, certificate: Flag, key: Flag) -> Result<Option<Pair>, ConfigError> {
        match (self.source(certificate), self.source(key)) {
            (None, None) => Ok(None),
            (Some(certificate), Some(key)) => Ok(Some(Pair { certificate, key })),
            (Some(_), None) => self.refuse(
                certificate.0,
                format_args!("has no key; pass {} too", key.1),
            ),
            (None, Some(_)) => self.refuse(
                key.0,
                format_args!("has no certificate; pass {} too", certificate.1),
            ),
        }
    }

    fn source(&self, (name, setting): Flag) -> Option<Source> {
        self.named(name).map(|text| Source {
            setting,
            path: PathBuf::from(text),
        })
    }

    /// What was written for a setting that has no value otherwise.
    fn named(&self, name: &str) -> Option<&str> {
        self.written(name).filter(|text| !text.is_empty())
    }

    fn list(&self, name: &str) -> Vec<String> {
        match self.named(name) {
            Some(_) => self.parts(name).map(str::to_owned).collect(),
            None => Vec::new(),
        }
    }
}
