//! The ports that tests give to members, which must still be free when a killed member comes back.

#[path = "../../ports.rs"]
mod ports;

use ports::free_ports;
use std::collections::BTreeSet;
use std::net::{Ipv6Addr, TcpListener, UdpSocket};

#[test]
fn ports_are_given_once_and_kept_from_other_processes() {
    let given: Vec<u16> = (0..20).flat_map(|_| free_ports(5).unwrap()).collect();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 100);
    for port in given {
        TcpListener::bind(("127.0.0.1", port)).expect("free for a member");
        let again = UdpSocket::bind(("127.0.0.1", port));
        assert!(again.is_err(), "another process would get {port}");
    }
}

/// What is let go in that range may be anybody's before a killed member is back.
#[test]
fn ports_are_none_that_the_system_gives_to_connections() {
    let told = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let bounds = told.split_whitespace().map(|bound| bound.parse().unwrap());
    let bounds: Vec<u16> = bounds.collect();
    if bounds[0] <= 10_000 && bounds[1] > 19_900 {
        return; // This system leaves too few.
    }
    for port in free_ports(50).unwrap() {
        assert!(
            !(bounds[0]..=bounds[1]).contains(&port),
            "{port} {bounds:?}"
        );
    }
}

#[test]
fn ports_on_which_somebody_listens_are_not_given() {
    let near = free_ports(1).unwrap()[0];
    let next = near + 1..near + 40;
    let listeners: Vec<TcpListener> = next
        .filter_map(|port| match port % 2 {
            0 => TcpListener::bind(("127.0.0.1", port)).ok(),
            _ => TcpListener::bind((Ipv6Addr::LOCALHOST, port)).ok(),
        })
        .collect();
    let taken: BTreeSet<u16> = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    assert!(taken.len() > 10, "{taken:?}");
    let given: BTreeSet<u16> = free_ports(40).unwrap().into_iter().collect();
    assert_eq!(given.intersection(&taken).count(), 0, "{given:?} {taken:?}");
}
