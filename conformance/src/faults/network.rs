//! A network namespace for each member, joined by a bridge on which this process has an address too: members can be cut off from one another, in one
//! direction or both, while clients still reach every one of them.
//!
//! A cut replaces the hardware address that one member knows for another by one that nobody has. Packets go out and vanish, as in a real network: no error, no
//! reset, and the other direction goes on. It takes no firewall and no modules.

use crate::Outcome;
use crate::faults::system::{is_leftover, is_root, run};
use std::net::{Ipv4Addr, SocketAddr};

use crate::process::Place;

/// Nobody's hardware address.
const NOBODY: &str = "02:00:00:00:00:01";
/// Ports inside a namespace are all free.
const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// The namespaces and what joins them. They go with their handle.
pub struct Network {
    prefix: String,
    bridge: String,
    subnet: u8,
    hardware: Vec<String>,
}

impl Network {
    /// Why there can be none here, if so.
    pub fn missing() -> Option<String> {
        if !is_root() {
            return Some("network namespaces need root".into());
        }
        let probe = format!("synod-faults-{}-probe", std::process::id());
        let made = run(&format!("ip netns add {probe}"));
        let _ = run(&format!("ip netns del {probe}"));
        made.err()
            .map(|error| format!("no network namespaces: {error} (Debian: iproute2)"))
    }

    /// Makes a namespace per member.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(count: usize) -> Outcome<Network> {
        sweep();
        let process = std::process::id();
        let mut network = Network {
            prefix: format!("synod-faults-{process}"),
            bridge: format!("sf{process}b"),
            subnet: free_subnet()?,
            hardware: Vec::new(),
        };
        network.build(count)?;
        Ok(network)
    }

    fn build(&mut self, count: usize) -> Outcome<()> {
        let bridge = self.bridge.clone();
        run(&format!("ip link add {bridge} type bridge"))?;
        run(&format!(
            "ip addr add {}/24 dev {bridge}",
            self.address(254)
        ))?;
        run(&format!("ip link set {bridge} up"))?;
        for at in 0..count {
            let (name, outside) = (self.namespace(at), format!("sf{}v{at}", std::process::id()));
            let inside = format!("ip -n {name}");
            run(&format!("ip netns add {name}"))?;
            run(&format!(
                "ip link add {outside} type veth peer name eth0 netns {name}"
            ))?;
            run(&format!("ip link set {outside} master {bridge} up"))?;
            run(&format!(
                "{inside} addr add {}/24 dev eth0",
                self.member(at)
            ))?;
            run(&format!("{inside} link set eth0 up"))?;
            run(&format!("{inside} link set lo up"))?;
            let shown = run(&format!("{inside} link show eth0"))?;
            let address = shown
                .split_whitespace()
                .skip_while(|word| *word != "link/ether")
                .nth(1);
            self.hardware
                .push(address.ok_or("eth0 has no hardware address")?.to_string());
        }
        self.heal()
    }

    /// Where the members live.
    pub fn places(&self) -> Vec<Place> {
        let place = |at: usize| {
            let peer = SocketAddr::from((self.member(at), PEER_PORT));
            let enter = ["ip", "netns", "exec"].map(String::from).to_vec();
            Place {
                client: SocketAddr::from((self.member(at), CLIENT_PORT)),
                peer,
                peer_listen: peer,
                wrapper: [enter, vec![self.namespace(at)]].concat(),
                environment: Vec::new(),
            }
        };
        (0..self.hardware.len()).map(place).collect()
    }

    /// What `from` sends to `to` vanishes.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn cut(&self, from: usize, to: usize) -> Outcome<()> {
        self.direct(from, to, NOBODY)
    }

    /// Nothing passes between the two, either way.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn part(&self, one: usize, other: usize) -> Outcome<()> {
        self.cut(one, other)?;
        self.cut(other, one)
    }

    /// Everything reaches everybody.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn heal(&self) -> Outcome<()> {
        for from in 0..self.hardware.len() {
            for to in (0..self.hardware.len()).filter(|to| *to != from) {
                self.direct(from, to, &self.hardware[to])?;
            }
        }
        Ok(())
    }

    fn direct(&self, from: usize, to: usize, hardware: &str) -> Outcome<()> {
        let (name, address) = (self.namespace(from), self.member(to));
        run(&format!(
            "ip -n {name} neigh replace {address} lladdr {hardware} nud permanent dev eth0"
        ))?;
        Ok(())
    }

    fn namespace(&self, at: usize) -> String {
        format!("{}-{at}", self.prefix)
    }

    fn member(&self, at: usize) -> Ipv4Addr {
        self.address(at as u8 + 1)
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.subnet, host)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for at in 0..=self.hardware.len() {
            // Of itself it would go with its namespace, which the kernel clears away when it finds time.
            let _ = run(&format!("ip link del {}", outside(at)));
            let _ = run(&format!("ip netns del {}", self.namespace(at)));
        }
        let _ = run(&format!("ip link del {}", self.bridge));
    }
}

/// This side's end of the line to a member.
fn outside(at: usize) -> String {
    format!("sf{}v{at}", std::process::id())
}

/// A 10.213.x.0/24 that no interface here has.
fn free_subnet() -> Outcome<u8> {
    let taken = run("ip -4 -o addr")?;
    let free = (0..=255).find(|subnet| !taken.contains(&format!(" 10.213.{subnet}.")));
    free.ok_or_else(|| "every network 10.213.x.0/24 is taken".into())
}

/// Removes what a run that was killed left behind.
fn sweep() {
    let listed = run("ip netns list").unwrap_or_default();
    let names = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| is_leftover(name)) {
        let _ = run(&format!("ip netns del {name}"));
    }
    let links = run("ip -o link show type bridge").unwrap_or_default();
    for name in links.lines().filter_map(|line| line.split(": ").nth(1)) {
        let process = name
            .strip_prefix("sf")
            .and_then(|rest| rest.strip_suffix('b'));
        if process.is_some_and(|process| is_leftover(&format!("synod-faults-{process}-"))) {
            let _ = run(&format!("ip link del {name}"));
        }
    }
}
