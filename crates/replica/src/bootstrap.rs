//! How a member with an empty directory finds its cluster, or founds one with others as empty as itself (DESIGN: Consensus, bootstrap).
//!
//! It asks every listed member, again and again. Only if every one answers "empty too" do all of them derive the same first configuration and cluster id
//! from the sorted list of (name, member id), and start. If any knows a cluster, the member joins it only as that cluster's own configuration names it:
//! as the founder it is listed as, in the place an operator prepared and the leader gave to this very directory, or as the learner the leader admitted.
//! So it asks all members of the cluster, too, which may be listed nowhere: whoever leads admits it, and those that are listed may leave. A member whose
//! directory was wiped, which has a new id and is named nowhere, can neither found a cluster while one of the others remembers, nor vote.
//!
//! A member that has its directory and lost the record of its votes ([`Bootstrap::again`]) asks in the same way. It founds nothing and calls itself empty
//! to nobody; it goes on as the next incarnation, a learner, once the leader has admitted that.
//!
//! Every id is durable before it is told to anybody. A crash at any point therefore either forgets nothing that others were told, or changes the id.

use crate::admission::vacant_place;
use crate::codec;
use bytes::Bytes;
use raft::{Configuration, DecodeError, Incarnation, Instant, Member, MemberId, PeerId};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often everybody is asked again.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// An answer "empty too" counts for so long: whoever gave it may have been wiped since, and have another id.
const ANSWER_FRESH: Duration = Duration::from_secs(3);
/// The incarnation of founders.
const FIRST_INCARNATION: Incarnation = Incarnation(1);

/// What members ask before they belong together.
#[allow(clippy::large_enum_variant, reason = "a handful of them is ever made")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapMessage {
    /// "Who are you, and do you know a cluster? I have none." The shell of a running member answers it, and also hands it to its replica
    /// ([`crate::Input::Join`]): a leader may admit the asker, which shows in the answers to later queries.
    Query(Introduction),
    /// The answer.
    Answer {
        /// Who answers.
        from: Introduction,
        /// The cluster it belongs to, if any.
        cluster: Option<KnownCluster>,
    },
}

impl BootstrapMessage {
    /// Writes the message in its wire form.
    pub fn encode(&self) -> Bytes {
        codec::encode_bootstrap(self)
    }

    /// Reads a message from its wire form.
    ///
    /// # Errors
    /// The bytes are no message of a known version.
    pub fn decode(bytes: Bytes) -> Result<BootstrapMessage, DecodeError> {
        codec::decode_bootstrap(bytes)
    }
}

/// Who a member says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its configured name.
    pub name: String,
    /// Its id, already durable in its directory.
    pub member: MemberId,
    /// The incarnation it had been, if it has lost the record of its votes and must become the next; 0: its directory is empty.
    pub incarnation: Incarnation,
    /// In a question: who had its name, as the one it asks last answered; `None`: nobody, or there was no answer yet. It asks for no other's place, so
    /// that a question long on its way does not push out who has been admitted since.
    pub replaces: Option<PeerId>,
    /// The names and addresses it was told with `--cluster`, sorted by name.
    pub listed: Vec<(String, String)>,
}

/// A cluster as one of its members knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownCluster {
    /// Its id.
    pub cluster: u64,
    /// The configuration it began with.
    pub bootstrap: Configuration,
    /// The newest configuration known to be decided there.
    pub current: Configuration,
    /// Who leads, if known: to be asked for admission.
    pub leader: Option<PeerId>,
}

/// What a bootstrapping member decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BootstrapOutcome {
    /// Write this identity, then start with this configuration at index 0.
    Start {
        /// Who this member is in it.
        id: PeerId,
        /// The cluster.
        cluster: u64,
        /// Its first configuration.
        configuration: Configuration,
    },
    /// This can never work; the text says why and what to do (names differ, ids clash, another cluster).
    Refused(String),
}

/// What a peer answered last.
struct Heard {
    at: Instant,
    member: MemberId,
}

/// The asking, pure.
pub struct Bootstrap {
    me: Introduction,
    /// The cluster it belonged to; 0: none.
    cluster: u64,
    /// Peers that said they are empty, by name.
    empty: BTreeMap<String, Heard>,
    /// Clusters that peers know, by the peer's name. Once a cluster is known, no other is ever founded here.
    known: BTreeMap<String, KnownCluster>,
    /// Members of the cluster it asked that are not listed.
    unlisted_asked: BTreeSet<String>,
    /// Who is to be answered.
    to_answer: BTreeSet<String>,
    ask_at: Instant,
    /// It founds nothing, and does not insist on the names it was told: the cluster knows them better.
    joins_only: bool,
    outcome: Option<BootstrapOutcome>,
}

impl Bootstrap {
    /// Begins for a member with an empty directory.
    pub fn new(me: Introduction, now: Instant) -> Bootstrap {
        Bootstrap::begin(me, 0, false, now)
    }

    /// Begins for a member with an empty directory that joins a cluster which exists, whatever else it hears.
    pub fn joining(me: Introduction, now: Instant) -> Bootstrap {
        Bootstrap::begin(me, 0, true, now)
    }

    /// Begins for a member of `cluster` that lost the record of its votes as the incarnation it introduces itself with.
    pub fn again(me: Introduction, cluster: u64, now: Instant) -> Bootstrap {
        assert!(
            cluster != 0 && me.incarnation > Incarnation(0),
            "incarnation {} of cluster {cluster:x} has lost nothing",
            me.incarnation.0
        );
        Bootstrap::begin(me, cluster, false, now)
    }

    fn begin(mut me: Introduction, cluster: u64, joins_only: bool, now: Instant) -> Bootstrap {
        me.listed.sort();
        let mut bootstrap = Bootstrap {
            me,
            cluster,
            empty: BTreeMap::new(),
            known: BTreeMap::new(),
            unlisted_asked: BTreeSet::new(),
            to_answer: BTreeSet::new(),
            ask_at: now,
            joins_only,
            outcome: None,
        };
        bootstrap.check_own_list();
        bootstrap.decide(now);
        bootstrap
    }

    fn check_own_list(&mut self) {
        let names: BTreeSet<&String> = self.me.listed.iter().map(|(name, _)| name).collect();
        if names.len() != self.me.listed.len() {
            self.refuse(format!(
                "--cluster: a name is listed twice in {}; give every member a name of its own",
                list(&self.me.listed)
            ));
        } else if !names.contains(&self.me.name) {
            self.refuse(format!(
                "--cluster: this member's name {} is not in {}; list every member, this one included",
                self.me.name,
                list(&self.me.listed)
            ));
        }
    }

    fn refuse(&mut self, text: String) {
        if self.outcome.is_none() {
            self.outcome = Some(BootstrapOutcome::Refused(text));
        }
    }

    fn is_listed(&self, name: &str) -> bool {
        self.me.listed.iter().any(|(listed, _)| listed == name)
    }

    /// Takes a message from the peer at this listed name.
    pub fn handle(&mut self, now: Instant, message: BootstrapMessage) {
        match message {
            // A stranger is not answered: it may be misconfigured, which is not this member's failure.
            BootstrapMessage::Query(from)
                if self.cluster == 0
                    && !self.joins_only
                    && self.is_listed(&from.name)
                    && from.member != self.me.member =>
            {
                self.to_answer.insert(from.name);
            }
            BootstrapMessage::Query(_) => {}
            BootstrapMessage::Answer { from, cluster } => self.on_answer(now, from, cluster),
        }
        self.decide(now);
    }

    fn on_answer(&mut self, now: Instant, from: Introduction, cluster: Option<KnownCluster>) {
        if from.name == self.me.name {
            // Its own address answers with its own id: it talks to itself.
            if from.member != self.me.member {
                self.refuse(format!(
                    "another member ({}) also calls itself {}; give every member a name of its own, and check the addresses in --cluster",
                    from.member, from.name
                ));
            }
            return;
        }
        if !self.is_listed(&from.name) {
            let asked = self.unlisted_asked.contains(&from.name);
            if asked || self.joins_only {
                // An address may have become another cluster's since; nobody told this member of that one.
                let mut clusters = self.known.values().map(|known| known.cluster);
                if let Some(known) = cluster
                    && (!asked || clusters.any(|other| other == known.cluster))
                {
                    self.learn(now, from.name, known);
                }
                return;
            }
            let text = format!(
                "a listed address answers as {}, which is not in {}; correct --cluster",
                from.name,
                list(&self.me.listed)
            );
            return self.refuse(text);
        }
        if from.member == self.me.member {
            let text = format!(
                "{} has this member's id {}: its data directory is a copy; empty one of the two",
                from.name, from.member
            );
            return self.refuse(text);
        }
        match cluster {
            Some(known) => {
                self.empty.remove(&from.name);
                self.learn(now, from.name, known);
            }
            None if self.joins_only => {}
            None => {
                let mut listed = from.listed;
                listed.sort();
                if listed != self.me.listed {
                    let text = format!(
                        "{} was started with --cluster {}, this member with {}; start all with the same list",
                        from.name,
                        list(&listed),
                        list(&self.me.listed)
                    );
                    return self.refuse(text);
                }
                self.empty.insert(
                    from.name,
                    Heard {
                        at: now,
                        member: from.member,
                    },
                );
            }
        }
    }

    fn learn(&mut self, now: Instant, from: String, known: KnownCluster) {
        if self.known.insert(from, known).is_none() {
            // Now it can say whose place it asks for.
            self.ask_at = now;
        }
    }

    /// What it asks this member: for the place of whoever has its name there.
    fn question(&self, name: &str) -> Introduction {
        let holder = |known: &KnownCluster| {
            let mut members = known.current.members.iter();
            let (&member, named) = members.find(|(_, member)| member.name == self.me.name)?;
            Some(PeerId {
                member,
                incarnation: named.incarnation,
            })
        };
        Introduction {
            replaces: self.known.get(name).and_then(holder),
            ..self.me.clone()
        }
    }

    fn decide(&mut self, now: Instant) {
        if self.outcome.is_some() {
            return;
        }
        if self.known.is_empty() {
            if self.cluster == 0 && !self.joins_only {
                self.decide_to_found(now)
            }
        } else {
            self.decide_to_join()
        }
    }

    /// Every other listed member says, just now, that it is empty as well: founds.
    fn decide_to_found(&mut self, now: Instant) {
        let mut founders = BTreeMap::from([(self.me.name.clone(), self.me.member)]);
        for (name, heard) in &self.empty {
            if now.since(heard.at) <= ANSWER_FRESH {
                founders.insert(name.clone(), heard.member);
            }
        }
        let all = self.me.listed.len();
        if founders.len() < mutated!(FoundWithMost, all / 2 + 1, all) {
            return;
        }
        let ids: BTreeSet<MemberId> = founders.values().copied().collect();
        if ids.len() < founders.len() {
            return self.refuse("two of the listed members have the same id: a data directory was copied; empty one of them".to_owned());
        }
        self.outcome = Some(BootstrapOutcome::Start {
            id: PeerId {
                member: self.me.member,
                incarnation: FIRST_INCARNATION,
            },
            cluster: cluster_id(&founders),
            configuration: first_configuration(&founders, &self.me.listed),
        });
    }

    /// Somebody knows a cluster: joins it if it names this member.
    fn decide_to_join(&mut self) {
        let clusters: BTreeSet<u64> = self.known.values().map(|known| known.cluster).collect();
        if clusters.len() > 1 {
            let told: Vec<String> = self
                .known
                .iter()
                .map(|(name, known)| format!("{name} to {:x}", known.cluster))
                .collect();
            let text = format!(
                "the listed members belong to different clusters ({}); correct --cluster, or empty the wrong ones",
                told.join(", ")
            );
            return self.refuse(text);
        }
        if let Some((name, known)) = self
            .known
            .iter()
            .find(|(_, known)| self.cluster != 0 && known.cluster != self.cluster)
        {
            let text = format!(
                "{name} belongs to cluster {:x}, this member to {:x}; correct --cluster or --data-dir",
                known.cluster, self.cluster
            );
            return self.refuse(text);
        }
        let place = self
            .known
            .values()
            .find_map(|known| self.place_in(known).map(|id| (id, known)));
        match place {
            Some((id, known)) => {
                self.outcome = Some(BootstrapOutcome::Start {
                    id,
                    cluster: known.cluster,
                    configuration: known.bootstrap.clone(),
                });
            }
            None => self.check_own_name(),
        }
    }

    /// A place is prepared for this member, and its name is another one's: nobody else will ever take the place, nor this member the name.
    fn check_own_name(&mut self) {
        let Some(address) = self.me.address().cloned() else {
            return;
        };
        let clash = self.known.values().find(|known| {
            let mut members = known.current.members.values();
            members.any(|member| member.name == self.me.name)
                && vacant_place(&known.current, &address).is_some()
        });
        if clash.is_some() && self.me.incarnation == Incarnation(0) {
            self.refuse(format!(
                "name: another member of the cluster is called {}; pass another --name, the one in --cluster with it",
                self.me.name
            ));
        }
    }

    /// The place an operator prepared and this member's directory has taken. No other directory goes on in it, and this one only while it remembers no
    /// vote in it.
    fn taken_place(&self, known: &KnownCluster) -> Option<PeerId> {
        let mut members = known.current.members.iter();
        let (&member, place) = members.find(|(_, member)| {
            member.taken_by == Some(self.me.member) && member.name == self.me.name
        })?;
        let peer = PeerId {
            member,
            incarnation: place.incarnation,
        };
        known.current.learners.contains(&peer).then_some(peer)
    }

    /// As whom this member belongs to a cluster: a founder that has not started yet, or a learner just admitted. An empty member is never anything else,
    /// for it remembers no vote.
    fn place_in(&self, known: &KnownCluster) -> Option<PeerId> {
        let founder = PeerId {
            member: self.me.member,
            incarnation: FIRST_INCARNATION,
        };
        let blank = self.me.incarnation == Incarnation(0);
        if let Some(taken) = self.taken_place(known).filter(|_| blank) {
            return Some(taken);
        }
        let named = |configuration: &Configuration| {
            configuration
                .members
                .get(&self.me.member)
                .filter(|member| member.name == self.me.name)
                .map(|member| member.incarnation)
        };
        let founded = known.bootstrap.voters.contains(&founder)
            && named(&known.bootstrap) == Some(FIRST_INCARNATION);
        let current = PeerId {
            member: self.me.member,
            incarnation: named(&known.current)?,
        };
        let admitted = known.current.learners.contains(&current)
            && (blank || current.incarnation > self.me.incarnation);
        if blank && (founded && current == founder) || admitted {
            Some(current)
        } else {
            None
        }
    }

    /// Where the member of this name is asked: as listed, or as the cluster says of a member that is not.
    pub fn address(&self, name: &str) -> Option<String> {
        let mut listed = self.me.listed.iter();
        let listed = listed.find(|(other, _)| other == name);
        listed
            .map(|(_, address)| address.clone())
            .or_else(|| self.unlisted().remove(name))
    }

    /// Names and addresses of the other members, as those asked know them, that are not listed. Only the leader can admit this member, and the next one
    /// may be any of them.
    fn unlisted(&self) -> BTreeMap<String, String> {
        let named = self
            .known
            .values()
            .flat_map(|known| known.current.members.values());
        let others =
            named.filter(|other| other.name != self.me.name && !self.is_listed(&other.name));
        others
            .filter_map(|other| Some((other.name.clone(), other.peer_addresses.first()?.clone())))
            .collect()
    }

    /// Messages to send, by the name of whom they are for ([`Bootstrap::address`]); asks everybody again about every second.
    pub fn poll(&mut self, now: Instant) -> Vec<(String, BootstrapMessage)> {
        self.decide(now);
        let answer = || BootstrapMessage::Answer {
            from: self.me.clone(),
            cluster: None,
        };
        let mut messages: Vec<_> = std::mem::take(&mut self.to_answer)
            .into_iter()
            .map(|name| (name, answer()))
            .collect();
        if now < self.ask_at {
            return messages;
        }
        self.ask_at = now + ASK_INTERVAL;
        let unlisted: Vec<String> = self.unlisted().into_keys().collect();
        self.unlisted_asked.extend(unlisted.iter().cloned());
        let listed = self.me.listed.iter().map(|(name, _)| name.clone());
        let others = listed
            .chain(unlisted)
            .filter(|name| *name != self.me.name)
            .map(|name| {
                let question = self.question(&name);
                (name, BootstrapMessage::Query(question))
            });
        messages.extend(others);
        messages
    }

    /// The decision, once there is one.
    pub fn outcome(&self) -> Option<BootstrapOutcome> {
        self.outcome.clone()
    }

    /// Whom it waits for, in words for the operator.
    pub fn waiting_for(&self) -> String {
        if self.me.incarnation > Incarnation(0) {
            return format!(
                "the leader of cluster {:x} to admit this member ({}, id {}) anew: it has lost the record of its votes as incarnation {}",
                self.cluster, self.me.name, self.me.member, self.me.incarnation.0
            );
        }
        if let Some(known) = self.known.values().next() {
            let mut members = known.current.members.values();
            if members.any(|member| member.name == self.me.name) {
                return format!(
                    "the leader of cluster {:x} to admit this member ({}, id {}) in place of its predecessor of that name",
                    known.cluster, self.me.name, self.me.member
                );
            }
            let address = self.me.address().map_or("", String::as_str);
            return format!(
                "a place in cluster {:x} for peer address {address}; prepare one with `synod member add {address}`, unless it is being taken right now",
                known.cluster
            );
        }
        let missing: Vec<String> = self
            .me
            .listed
            .iter()
            .filter(|(name, _)| *name != self.me.name && !self.empty.contains_key(name))
            .map(|(name, address)| format!("{name} at {address}"))
            .collect();
        if missing.is_empty() {
            "a fresh answer of the listed members".to_owned()
        } else {
            format!("an answer of {}", missing.join(", "))
        }
    }
}

fn list(listed: &[(String, String)]) -> String {
    let listed: Vec<String> = listed
        .iter()
        .map(|(name, address)| format!("{name}={address}"))
        .collect();
    listed.join(",")
}

/// The cluster id all founders derive: FNV-1a over names and ids in order of names, then mixed. Never 0.
fn cluster_id(founders: &BTreeMap<String, MemberId>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for (name, member) in founders {
        add(&(name.len() as u64).to_le_bytes());
        add(name.as_bytes());
        add(&member.0.to_le_bytes());
    }
    hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (hash ^ (hash >> 32)).max(1)
}

fn first_configuration(
    founders: &BTreeMap<String, MemberId>,
    listed: &[(String, String)],
) -> Configuration {
    let mut configuration = Configuration::default();
    for (name, address) in listed {
        mutated!(
            FoundWithMost,
            if !founders.contains_key(name) {
                continue;
            }
        );
        let member = founders[name];
        configuration.voters.insert(PeerId {
            member,
            incarnation: FIRST_INCARNATION,
        });
        let value = Member {
            incarnation: FIRST_INCARNATION,
            name: name.clone(),
            peer_addresses: vec![address.clone()],
            ..Member::default()
        };
        configuration.members.insert(member, value);
    }
    configuration
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
