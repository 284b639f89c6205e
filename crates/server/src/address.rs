//! Addresses as settings write them: where a member listens, and where it is reached.

use crate::config::{ConfigError, Settings};
use std::collections::BTreeMap;
use std::net::SocketAddr;

const EXAMPLE: &str = "write HOST:PORT, such as 127.0.0.1:2379";

/// A client address, with what is spoken there if that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// What stands before it.
    pub scheme: Scheme,
    /// `host:port`.
    pub at: String,
}

/// What an address says of how it is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Nothing: TLS if there are certificates.
    Unsaid,
    /// `http://`: plain text, certificates or not.
    Http,
    /// `https://`: TLS.
    Https,
}

impl Address {
    /// Reads `host:port`, perhaps behind `http://` or `https://`.
    ///
    /// # Errors
    /// What is wrong with it, and how to write it.
    pub fn parse(text: &str, may_be_port_zero: bool) -> Result<Address, String> {
        let (scheme, at) = match text.split_once("://") {
            Some(("http", at)) => (Scheme::Http, at),
            Some(("https", at)) => (Scheme::Https, at),
            _ => (Scheme::Unsaid, text),
        };
        check_address(at, may_be_port_zero)?;
        let at = at.to_owned();
        Ok(Address { scheme, at })
    }

    /// Whether TLS is spoken there.
    pub fn speaks_tls(&self, certificates: bool) -> bool {
        match self.scheme {
            Scheme::Unsaid => certificates,
            Scheme::Http => false,
            Scheme::Https => true,
        }
    }

    /// As others are told of it: behind `https://` where TLS is spoken.
    pub(crate) fn told(&self, certificates: bool) -> String {
        let scheme = if self.speaks_tls(certificates) {
            "https://"
        } else {
            ""
        };
        format!("{scheme}{}", self.at)
    }

    /// Stands for all addresses of the machine, which tells nobody where to go.
    fn is_everywhere(&self) -> bool {
        is_everywhere(&self.at)
    }

    /// Puts the port that the system chose in the place of port 0.
    pub(crate) fn bound(&mut self, to: SocketAddr) {
        if self.at.ends_with(":0") {
            self.at = to.to_string();
        }
    }
}

/// Reads a list of members, as `NAME=HOST:PORT` separated by commas.
///
/// # Errors
/// It is none; the text says why.
pub fn parse_cluster(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut cluster: BTreeMap<String, String> = BTreeMap::new();
    let parts = text.split(',').map(str::trim);
    for part in parts.filter(|part| !part.is_empty()) {
        let (member, address) = part.split_once('=').ok_or_else(|| {
            format!("{part:?} is not NAME=HOST:PORT; write it as n1=127.0.0.1:2380,n2=127.0.0.1:22380,n3=127.0.0.1:32380")
        })?;
        check_address(address, false).map_err(|why| format!("{member}: {why}"))?;
        if cluster.values().any(|other| other == address) {
            return Err(format!(
                "{address} stands for two members; give each its own"
            ));
        }
        if cluster
            .insert(member.to_owned(), address.to_owned())
            .is_some()
        {
            return Err(format!(
                "{member} is listed twice; give each member its own name"
            ));
        }
    }
    Ok(cluster)
}

/// Checks that a text is `host:port`.
///
/// # Errors
/// What is wrong with it, and how to write it.
pub fn check_address(text: &str, may_be_port_zero: bool) -> Result<(), String> {
    if text.starts_with('[') && text.ends_with(']') {
        return Err(format!("{text:?} has no port; write {text}:2379"));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(format!("{text:?} has no port; {EXAMPLE}"));
    };
    if text.contains("://") {
        return Err(format!("{text:?} is a URL; {EXAMPLE}"));
    }
    if host.is_empty() {
        return Err(format!("{text:?} has no host; {EXAMPLE}"));
    }
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(format!(
            "{text:?} is an IPv6 address without brackets; write [::1]:2379"
        ));
    }
    match port.parse::<u16>() {
        Ok(0) if !may_be_port_zero => Err(format!(
            "{text:?} has port 0, which nobody can dial; {EXAMPLE}"
        )),
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "{port:?} is no port, 1 to 65535 is allowed; {EXAMPLE}"
        )),
    }
}

pub(crate) fn is_everywhere(address: &str) -> bool {
    address
        .parse::<SocketAddr>()
        .is_ok_and(|address| address.ip().is_unspecified())
}

impl Settings {
    /// The parts of a list of addresses: there are some, and none is there twice.
    fn places(&self, name: &str) -> Result<Vec<&str>, ConfigError> {
        let parts: Vec<&str> = self.parts(name).collect();
        if parts.is_empty() {
            return self.refuse(name, "is empty; write HOST:PORT, several with commas");
        }
        let again =
            |(nth, part): (usize, &&str)| parts[..nth].contains(part) && !part.ends_with(":0");
        match parts.iter().enumerate().find(|nth| again(*nth)) {
            Some((_, part)) => {
                self.refuse(name, format_args!("{part} is listed twice; leave one out"))
            }
            None => Ok(parts),
        }
    }

    /// Where to listen for clients. What is to speak TLS needs certificates.
    pub(crate) fn listened(
        &self,
        name: &str,
        certificates: bool,
    ) -> Result<Vec<Address>, ConfigError> {
        let mut addresses = Vec::new();
        for part in self.places(name)? {
            match Address::parse(part, true) {
                Ok(address) if address.scheme == Scheme::Https && !certificates => {
                    return self.refuse(name, format_args!("{part} needs a certificate; pass --cert-file and --key-file, or --auto-tls"));
                }
                Ok(address) => addresses.push(address),
                Err(why) => return self.refuse(name, why),
            }
        }
        Ok(addresses)
    }

    /// Where clients are told to go: as written, else where the member listens, which must then be where others can go.
    pub(crate) fn advertised_to_clients(
        &self,
        listened: &[Address],
    ) -> Result<Vec<Address>, ConfigError> {
        let name = "advertise-client-addr";
        if self.written(name).is_none() {
            return match listened.iter().find(|address| address.is_everywhere()) {
                Some(address) => self.refuse_everywhere("client-addr", &address.at, name),
                None => Ok(listened.to_vec()),
            };
        }
        let parsed = self.places(name)?.into_iter();
        let parsed: Result<_, _> = parsed.map(|part| Address::parse(part, false)).collect();
        parsed.or_else(|why| self.refuse(name, why))
    }

    pub(crate) fn peer_addresses(&self) -> Result<Vec<String>, ConfigError> {
        let name = "peer-addr";
        let parts = self.places(name)?;
        for part in &parts {
            if let Err(why) = check_address(part, true) {
                return self.refuse(name, why);
            }
        }
        Ok(parts.into_iter().map(str::to_owned).collect())
    }

    /// Refuses an address that two settings name: the second would find it taken, by this very process.
    pub(crate) fn apart(
        &self,
        (name, addresses): (&str, &[String]),
        (other, others): (&str, &[String]),
    ) -> Result<(), ConfigError> {
        let shared = |address: &&String| others.contains(address) && !address.ends_with(":0");
        match addresses.iter().find(shared) {
            Some(address) => {
                let other = self.subject(other);
                self.refuse(
                    name,
                    format_args!("{address} is the address of {other} too; give each its own port"),
                )
            }
            None => Ok(()),
        }
    }

    /// Where members are told to go, by the same rule.
    fn advertised_to_members(&self, listened: &str) -> Result<String, ConfigError> {
        let name = "advertise-peer-addr";
        match self.written(name) {
            Some(text) => match check_address(text, false) {
                Ok(()) => Ok(text.to_owned()),
                Err(why) => self.refuse(name, why),
            },
            None if is_everywhere(listened) => self.refuse_everywhere("peer-addr", listened, name),
            None => Ok(listened.to_owned()),
        }
    }

    fn refuse_everywhere<T>(
        &self,
        name: &str,
        address: &str,
        advertise: &str,
    ) -> Result<T, ConfigError> {
        self.refuse(name, format_args!("{address} listens everywhere but tells nobody where; pass --{advertise} HOST:PORT too"))
    }

    /// The members, and this one's address among them.
    pub(crate) fn cluster(
        &self,
        name: &str,
        peer_addr: &str,
    ) -> Result<(BTreeMap<String, String>, String), ConfigError> {
        let Some(text) = self.written("cluster") else {
            let address = self.advertised_to_members(peer_addr)?;
            return Ok(([(name.to_owned(), address.clone())].into(), address));
        };
        let cluster = parse_cluster(text).or_else(|why| self.refuse("cluster", why))?;
        let Some(own) = cluster.get(name).cloned() else {
            let names: Vec<&str> = cluster.keys().map(String::as_str).collect();
            return self.refuse(
                "cluster",
                format_args!(
                    "this member ({name}) is not among {}; add it, or pass --name",
                    names.join(", ")
                ),
            );
        };
        match self.written("advertise-peer-addr") {
            Some(advertised) if advertised != own => {
                self.refuse("advertise-peer-addr", format_args!("{advertised} differs from {own}, which --cluster gives for {name}; make them equal"))
            }
            _ => Ok((cluster, own)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_said_by_the_scheme_or_by_the_certificates() {
        let told = |text, certificates| Address::parse(text, false).map(|it| it.told(certificates));
        assert_eq!(told("h:1", false).as_deref(), Ok("h:1"));
        assert_eq!(told("h:1", true).as_deref(), Ok("https://h:1"));
        assert_eq!(told("http://h:1", true).as_deref(), Ok("h:1"));
        assert_eq!(
            told("https://[::1]:1", false).as_deref(),
            Ok("https://[::1]:1")
        );
        for text in ["ftp://h:1", "http://h", "https://h:0", "http://h:1/path"] {
            assert!(told(text, false).is_err(), "{text}");
        }
    }
}
