//! Ports for members that tests start, kill and start again. Whoever needs some includes this file; it is no crate, because nothing that is released
//! uses it.
//!
//! A port that the system chose (`bind` to 0) and that was let go is anybody's: the next outgoing connection may have it, even one to that very port,
//! which then talks to itself. These are from a range the system does not choose from, and stay with the process that got them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::sync::Mutex;

/// Scripts beside the tests choose theirs above.
const FIRST: u16 = 10_000;
const LAST: u16 = 19_999;

/// For as long as the process lives, a socket of the other protocol under the number of each port given: no process that asks gets that port, and who
/// starts a member there is in nobody's way.
static GIVEN: Mutex<Vec<UdpSocket>> = Mutex::new(Vec::new());

/// Ports where nobody listens, neither at 127.0.0.1 nor at ::1, and that nobody else who asks here gets.
///
/// # Errors
/// When there are not that many.
pub fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let mut given = GIVEN.lock().expect("no holder panics");
    // Processes begin apart, so that they seldom try what another one has.
    let first = std::process::id() as u16 % 100 * 100;
    let candidates = (FIRST + first..=LAST).chain(FIRST..FIRST + first);
    let chosen_from = chosen_by_the_system();
    let free = candidates
        .filter(|port| !chosen_from.contains(port))
        .filter_map(|port| Some((port, claim(port)?)));
    let (ports, claims): (Vec<u16>, Vec<_>) = free.take(count).unzip();
    if ports.len() < count {
        let text = format!(
            "only {} of {count} ports are free between {FIRST} and {LAST}",
            ports.len()
        );
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    given.extend(claims);
    Ok(ports)
}

/// What says that a port is taken, if it was not.
fn claim(port: u16) -> Option<UdpSocket> {
    let claim = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()?;
    // Where there is no IPv6 the error is another one.
    let taken = TcpListener::bind((Ipv6Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
    (!taken).then_some(claim)
}

/// The ports from which the system takes those of outgoing connections, where it says so and leaves us any.
fn chosen_by_the_system() -> std::ops::RangeInclusive<u16> {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let bounds: Vec<u16> = told
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|bound| bound.parse().ok())
        .collect();
    match bounds[..] {
        [first, last] if first > FIRST || last < LAST => first..=last,
        // No port is 0.
        _ => 0..=0,
    }
}
