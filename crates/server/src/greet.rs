//! The greeting that begins each connection between members: both sides say who they are and whom they expect, and either may refuse in words.

use crate::tls::{LiveTls, Stream, host};
use crate::wire::{
    self, FEATURE_LEVEL, GREETING_BYTES_MAX, Greeting, MAGIC, PROTOCOLS, Party, Purpose, Welcome,
};
use raft::{Boot, MemberId, PeerId};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, RwLock};
use std::time::Duration;
use tls::rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the other side may take with its words.
const GREETING_TIMEOUT: Duration = Duration::from_secs(2);

/// What a member says of itself in greetings.
#[derive(Clone, Debug)]
pub(crate) struct Me {
    pub(crate) id: PeerId,
    pub(crate) boot: Boot,
    pub(crate) name: String,
    /// 0 while the member still looks for its cluster.
    pub(crate) cluster: u64,
    pub(crate) cell: u64,
    pub(crate) peer_addresses: Vec<String>,
    pub(crate) client_addresses: Vec<String>,
    /// What it shows when it dials; `None` if members speak plain text.
    pub(crate) tls: Option<Arc<LiveTls>>,
}

/// The same, for the side that accepts: it changes once, when the member has found its cluster.
pub(crate) type SharedMe = RwLock<Arc<Me>>;

impl Me {
    pub(crate) fn party(&self) -> Party {
        Party {
            member: self.id.member.0,
            incarnation: self.id.incarnation.0,
            boot: self.boot.0,
            name: self.name.clone(),
            peer_addresses: self.peer_addresses.clone(),
            client_addresses: self.client_addresses.clone(),
        }
    }

    fn greeting(&self, to: Option<PeerId>, purpose: Purpose) -> Greeting {
        Greeting {
            protocol_min: *PROTOCOLS.start(),
            protocol_max: *PROTOCOLS.end(),
            feature_level: FEATURE_LEVEL,
            purpose: purpose.number(),
            cluster: self.cluster,
            cell: self.cell,
            from: Some(self.party()),
            to: to.map(|peer| Party {
                member: peer.member.0,
                incarnation: peer.incarnation.0,
                ..Party::default()
            }),
        }
    }

    /// The answer to a greeting, refusal or not.
    pub(crate) fn welcome(&self, protocol: u32, refusal: String) -> Welcome {
        Welcome {
            protocol,
            not_yet: self.cluster == 0 && !refusal.is_empty(),
            departed: false,
            refusal,
            feature_level: FEATURE_LEVEL,
            cluster: self.cluster,
            cell: self.cell,
            from: Some(self.party()),
        }
    }

    /// The answer to a member that left this one's cluster; `None` to all others.
    pub(crate) fn farewell(&self, greeting: &Greeting, departed: &[MemberId]) -> Option<Welcome> {
        let from = MemberId(greeting.from.as_ref()?.member);
        let ours = self.cluster != 0 && greeting.cluster == self.cluster;
        (ours && departed.contains(&from)).then(|| Welcome {
            departed: true,
            ..self.welcome(0, format!("member {from} was removed from the cluster"))
        })
    }

    /// Judges who dialled: the protocol to speak and what the connection is for.
    ///
    /// # Errors
    /// The refusal, in words that make sense to the operators of both sides.
    pub(crate) fn judge(&self, greeting: &Greeting) -> Result<(u32, Purpose, Party), String> {
        let me = format!("member {} ({})", self.name, self.id);
        let from = greeting.from.clone().ok_or("a greeting without a sender")?;
        let protocol = greeting.protocol_max.min(*PROTOCOLS.end());
        if protocol < greeting.protocol_min || protocol < *PROTOCOLS.start() {
            let (low, high) = (greeting.protocol_min, greeting.protocol_max);
            let (our_low, our_high) = (PROTOCOLS.start(), PROTOCOLS.end());
            return Err(format!(
                "no common protocol: {me} speaks {our_low} to {our_high}, the other side {low} to {high}; upgrade the older one"
            ));
        }
        let purpose = Purpose::of(greeting.purpose)
            .ok_or_else(|| format!("unknown purpose {} of a connection", greeting.purpose))?;
        if from.member == self.id.member.0 {
            return Err(format!(
                "{me} was dialled by itself: one of the addresses in --cluster leads back to it"
            ));
        }
        if purpose == Purpose::Bootstrap {
            return Ok((protocol, purpose, from));
        }
        if self.cluster == 0 {
            return Err(format!(
                "{me} belongs to no cluster yet: it is still looking for one"
            ));
        }
        if greeting.cluster != self.cluster {
            let (other, mine) = (greeting.cluster, self.cluster);
            return Err(format!(
                "{me} belongs to cluster {mine:x}, not to {other:x}; check --cluster and --data-dir on both sides"
            ));
        }
        if greeting.cell != self.cell {
            return Err(format!(
                "{me} holds cell {}, not {}",
                self.cell, greeting.cell
            ));
        }
        let to = greeting.to.as_ref().map(Party::peer);
        if to != Some(self.id) {
            let wanted = to.map_or_else(|| "nobody".into(), |peer| peer.to_string());
            return Err(format!(
                "this is {me}, not member {wanted}; if its data directory was lost it must be admitted anew"
            ));
        }
        Ok((protocol, purpose, from))
    }
}

/// Why a dial did not become a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum DialError {
    /// Nothing listens there: the host is up and the process is not.
    NoProcess,
    /// No connection, or none that answered. `hung_up`: a process that is just going looks like that.
    Unreachable { reason: String, hung_up: bool },
    /// The other side still looks for its cluster.
    NotYet,
    /// This member was removed from the cluster.
    Departed,
    /// The other side refused, or is not who it should be.
    Rejected(String),
}

impl DialError {
    fn broken(error: &io::Error) -> DialError {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let hung_up = matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
        );
        DialError::Unreachable {
            reason: if hung_up {
                "it hung up".into()
            } else {
                error.to_string()
            },
            hung_up,
        }
    }
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::NoProcess => f.write_str("nothing listens at its address"),
            DialError::NotYet => f.write_str("it still looks for its cluster"),
            DialError::Departed => f.write_str("this member was removed from the cluster"),
            DialError::Unreachable { reason, .. } | DialError::Rejected(reason) => {
                f.write_str(reason)
            }
        }
    }
}

/// Connects to a member and checks that it is the one meant.
///
/// # Errors
/// See [`DialError`].
pub(crate) async fn dial(
    me: &Me,
    peer: PeerId,
    addresses: &[String],
    purpose: Purpose,
) -> Result<(Stream, Welcome), DialError> {
    let (stream, welcome) = introduce(me, Some(peer), addresses, purpose).await?;
    let found = welcome.from.as_ref().map(Party::peer);
    if found != Some(peer) || welcome.cluster != me.cluster || welcome.cell != me.cell {
        let found = found.map_or_else(|| "nobody".into(), |found| found.to_string());
        let cluster = welcome.cluster;
        return Err(DialError::Rejected(format!(
            "at its address is member {found} of cluster {cluster:x}"
        )));
    }
    Ok((stream, welcome))
}

/// Connects and greets; the answer is not yet checked but for a refusal and the protocol.
///
/// # Errors
/// See [`DialError`].
pub(crate) async fn introduce(
    me: &Me,
    to: Option<PeerId>,
    addresses: &[String],
    purpose: Purpose,
) -> Result<(Stream, Welcome), DialError> {
    let (stream, address) = connect(addresses).await?;
    let exchange = async {
        let mut stream = secure(stream, address, me.tls.as_deref()).await?;
        stream
            .send(&wire::encode_greeting(&me.greeting(to, purpose)))
            .await?;
        let welcome = read_greeting::<Welcome>(&mut stream).await?;
        Ok::<_, io::Error>((stream, welcome))
    };
    let (stream, welcome) = match timeout(GREETING_TIMEOUT, exchange).await {
        Ok(Ok(answered)) => answered,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            return Err(DialError::Rejected(tls::explain(&error, "that member")));
        }
        Ok(Err(error)) => return Err(DialError::broken(&error)),
        Err(_) => {
            return Err(DialError::Unreachable {
                reason: "it accepts connections but does not answer".into(),
                hung_up: false,
            });
        }
    };
    if welcome.departed && welcome.cluster == me.cluster {
        return Err(DialError::Departed);
    }
    if welcome.not_yet {
        return Err(DialError::NotYet);
    }
    if !welcome.refusal.is_empty() {
        return Err(DialError::Rejected(welcome.refusal));
    }
    if !PROTOCOLS.contains(&welcome.protocol) {
        return Err(DialError::Rejected(format!(
            "it chose protocol {}, which is not known here",
            welcome.protocol
        )));
    }
    Ok((stream, welcome))
}

/// Shakes hands with the member at an address, if members speak TLS.
async fn secure(stream: TcpStream, address: &str, tls: Option<&LiveTls>) -> io::Result<Stream> {
    let Some(tls) = tls else {
        return Ok(Stream::Plain(stream));
    };
    let name = ServerName::try_from(host(address).to_owned()).map_err(|_| {
        let text = format!("{address} names no host that a certificate could be for");
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    let connector = TlsConnector::from(tls.dialling());
    let stream = connector.connect(name, stream).await?;
    Ok(Stream::Tls(Box::new(stream.into())))
}

/// Connects to the first address that answers, and says which.
async fn connect(addresses: &[String]) -> Result<(TcpStream, &str), DialError> {
    let unreachable = |reason: String| DialError::Unreachable {
        reason,
        hung_up: false,
    };
    let mut failure = unreachable("it has no address".into());
    for address in addresses {
        let targets = match resolve(address).await {
            Ok(targets) => targets,
            Err(error) => {
                failure = unreachable(format!("{address} cannot be resolved: {error}"));
                continue;
            }
        };
        for target in targets {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(target)).await {
                Ok(Ok(stream)) if meets_itself(&stream) => failure = DialError::NoProcess,
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true);
                    return Ok((stream, address));
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    failure = DialError::NoProcess
                }
                Ok(Err(error)) => failure = DialError::broken(&error),
                Err(_) => {
                    failure = unreachable(format!(
                        "no answer from {target} within {} ms",
                        CONNECT_TIMEOUT.as_millis()
                    ))
                }
            }
        }
    }
    Err(failure)
}

/// Whether both ends are one socket: on loopback, who dials a port where nobody listens may be given that very port as its own. The member that comes
/// back would find it taken.
fn meets_itself(stream: &TcpStream) -> bool {
    let ends = (stream.local_addr(), stream.peer_addr());
    matches!(ends, (Ok(own), Ok(other)) if own == other)
}

async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = address.parse() {
        return Ok(vec![address]);
    }
    Ok(tokio::net::lookup_host(address).await?.collect())
}

/// Reads a greeting or a welcome.
///
/// # Errors
/// `InvalidData` if it is none; otherwise what the connection says.
pub(crate) async fn read_greeting<G: prost::Message + Default>(
    stream: &mut Stream,
) -> io::Result<G> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
    let mut head = [0; 12];
    stream.read_exact(&mut head).await?;
    if head[..8] != MAGIC {
        return Err(invalid("the other side is no synod member".into()));
    }
    let length = u32::from_le_bytes(head[8..].try_into().expect("four bytes")) as usize;
    if length > GREETING_BYTES_MAX {
        return Err(invalid(format!(
            "a greeting of {length} bytes, at most {GREETING_BYTES_MAX} are allowed"
        )));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    G::decode(&body[..])
        .map_err(|error| invalid(format!("a greeting that cannot be read: {error}")))
}

/// Waits for the greeting of a connection that was accepted.
///
/// # Errors
/// As [`read_greeting`], and `TimedOut`.
pub(crate) async fn receive(stream: &mut Stream) -> io::Result<Greeting> {
    match timeout(GREETING_TIMEOUT, read_greeting(stream)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// A random number from the system.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    u64::from_le_bytes(bytes)
}

/// A random id: never 0, which means "none".
pub(crate) fn random_id() -> u64 {
    random().max(1)
}

/// A new member's id.
pub(crate) fn random_member() -> MemberId {
    MemberId(random_id())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use raft::Incarnation;

    pub(crate) fn me(member: u64, cluster: u64) -> Me {
        Me {
            id: PeerId {
                member: MemberId(member),
                incarnation: Incarnation(1),
            },
            boot: Boot(9),
            name: format!("n{member}"),
            cluster,
            cell: 1,
            peer_addresses: vec!["h:1".into()],
            client_addresses: vec!["h:2".into()],
            tls: None,
        }
    }

    fn refusal(here: &Me, greeting: &Greeting) -> String {
        here.judge(greeting).expect_err("must be refused")
    }

    #[tokio::test]
    async fn who_reaches_only_himself_reached_nobody() {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let own = socket.local_addr().unwrap();
        let stream = socket.connect(own).await.expect("nobody listens, yet");
        assert!(meets_itself(&stream));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = listener.local_addr().unwrap();
        assert!(!meets_itself(&TcpStream::connect(other).await.unwrap()));
    }

    #[test]
    fn members_of_one_cluster_are_let_in() {
        let (here, there) = (me(1, 7), me(2, 7));
        let greeting = there.greeting(Some(here.id), Purpose::Cell);
        let (protocol, purpose, from) = here.judge(&greeting).expect("they belong together");
        assert_eq!(
            (protocol, purpose, from.peer()),
            (1, Purpose::Cell, there.id)
        );
    }

    #[test]
    fn strangers_are_refused_in_words() {
        let (here, there) = (me(1, 7), me(2, 7));
        let other_cluster = me(2, 8).greeting(Some(here.id), Purpose::Cell);
        assert!(refusal(&here, &other_cluster).contains("belongs to cluster 7, not to 8"));
        let other_member = there.greeting(Some(me(3, 7).id), Purpose::Bulk);
        assert!(refusal(&here, &other_member).contains("not member 3.1"));
        let earlier_life = PeerId {
            incarnation: Incarnation(0),
            ..here.id
        };
        assert!(
            refusal(&here, &there.greeting(Some(earlier_life), Purpose::Cell))
                .contains("admitted anew")
        );
        assert!(
            refusal(&here, &here.greeting(Some(here.id), Purpose::Cell))
                .contains("dialled by itself")
        );
        let newer = Greeting {
            protocol_min: 5,
            protocol_max: 6,
            ..there.greeting(Some(here.id), Purpose::Cell)
        };
        assert!(refusal(&here, &newer).contains("upgrade the older one"));
        assert!(
            refusal(
                &here,
                &Greeting {
                    from: None,
                    ..newer
                }
            )
            .contains("without a sender")
        );
    }

    #[test]
    fn a_member_without_a_cluster_answers_questions_only() {
        let (here, there) = (me(1, 0), me(2, 7));
        assert!(
            refusal(&here, &there.greeting(Some(here.id), Purpose::Cell))
                .contains("no cluster yet")
        );
        assert!(here.welcome(0, "no cluster yet".into()).not_yet);
        assert!(
            here.judge(&there.greeting(None, Purpose::Bootstrap))
                .is_ok()
        );
    }
}
