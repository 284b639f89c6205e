//! Every order of messages, crashes and wipes that a seed can find, and the single rules one by one.

use super::*;
use std::collections::BTreeMap;

fn introduction(nth: usize, id: u64, size: usize) -> Introduction {
    let listed = (1..=size)
        .map(|n| (format!("n{n}"), format!("host{n}:2380")))
        .collect();
    Introduction {
        name: format!("n{nth}"),
        member: MemberId(id),
        incarnation: Incarnation(0),
        replaces: None,
        listed,
    }
}

fn at(ms: u64) -> Instant {
    Instant(ms * 1000)
}

fn empty(from: Introduction) -> BootstrapMessage {
    BootstrapMessage::Answer {
        from,
        cluster: None,
    }
}

fn started(outcome: Option<BootstrapOutcome>) -> (PeerId, u64, Configuration) {
    match outcome {
        Some(BootstrapOutcome::Start {
            id,
            cluster,
            configuration,
        }) => (id, cluster, configuration),
        other => panic!("not started: {other:?}"),
    }
}

fn refusal(outcome: Option<BootstrapOutcome>) -> String {
    match outcome {
        Some(BootstrapOutcome::Refused(text)) => text,
        other => panic!("not refused: {other:?}"),
    }
}

fn known(cluster: u64, configuration: &Configuration) -> KnownCluster {
    KnownCluster {
        cluster,
        bootstrap: configuration.clone(),
        current: configuration.clone(),
        leader: None,
    }
}

#[test]
fn a_single_member_founds_at_once() {
    let bootstrap = Bootstrap::new(introduction(1, 7, 1), at(0));
    let (id, cluster, configuration) = started(bootstrap.outcome());
    assert_eq!(
        id,
        PeerId {
            member: MemberId(7),
            incarnation: Incarnation(1)
        }
    );
    assert_ne!(cluster, 0);
    assert_eq!(configuration.voters.len(), 1);
    assert_eq!(
        configuration.members[&MemberId(7)].peer_addresses,
        vec!["host1:2380"]
    );
}

#[test]
fn all_empty_members_derive_the_same_cluster() {
    let mut outcomes = Vec::new();
    for me in 1..=3usize {
        let mut bootstrap = Bootstrap::new(introduction(me, 10 + me as u64, 3), at(0));
        for other in (1..=3usize).filter(|&other| other != me) {
            assert_eq!(bootstrap.outcome(), None);
            bootstrap.handle(at(5), empty(introduction(other, 10 + other as u64, 3)));
        }
        let (id, cluster, configuration) = started(bootstrap.outcome());
        assert_eq!(id.member, MemberId(10 + me as u64));
        outcomes.push((cluster, configuration));
    }
    assert!(
        outcomes.windows(2).all(|pair| pair[0] == pair[1]),
        "{outcomes:?}"
    );
}

#[test]
fn two_of_three_never_found() {
    let mut bootstrap = Bootstrap::new(introduction(1, 11, 3), at(0));
    for second in 1..600 {
        bootstrap.handle(at(second * 1000), empty(introduction(2, 12, 3)));
        bootstrap.poll(at(second * 1000));
    }
    assert_eq!(bootstrap.outcome(), None);
    assert_eq!(bootstrap.waiting_for(), "an answer of n3 at host3:2380");
}

#[test]
fn an_old_answer_does_not_count() {
    let mut bootstrap = Bootstrap::new(introduction(1, 11, 3), at(0));
    bootstrap.handle(at(0), empty(introduction(2, 12, 3)));
    bootstrap.handle(at(3001), empty(introduction(3, 13, 3)));
    assert_eq!(bootstrap.outcome(), None, "n2 may have been wiped since");
    bootstrap.handle(at(3500), empty(introduction(2, 22, 3)));
    let (_, _, configuration) = started(bootstrap.outcome());
    assert!(configuration.members.contains_key(&MemberId(22)));
}

#[test]
fn a_known_cluster_is_joined_only_as_it_names_the_member() {
    let mut founder = Bootstrap::new(introduction(1, 11, 3), at(0));
    founder.handle(at(0), empty(introduction(2, 12, 3)));
    founder.handle(at(0), empty(introduction(3, 13, 3)));
    let (_, cluster, configuration) = started(founder.outcome());
    let answer = BootstrapMessage::Answer {
        from: introduction(1, 11, 3),
        cluster: Some(known(cluster, &configuration)),
    };

    // A founder that has not started yet.
    let mut late = Bootstrap::new(introduction(2, 12, 3), at(0));
    late.handle(at(0), answer.clone());
    assert_eq!(
        started(late.outcome()),
        (
            PeerId {
                member: MemberId(12),
                incarnation: Incarnation(1)
            },
            cluster,
            configuration.clone()
        )
    );

    // A wiped one: another id. Even if the third says "empty too" it neither founds nor starts.
    let mut wiped = Bootstrap::new(introduction(2, 99, 3), at(0));
    wiped.handle(at(0), answer.clone());
    wiped.handle(at(0), empty(introduction(3, 13, 3)));
    assert_eq!(wiped.outcome(), None);
    assert!(
        wiped.waiting_for().contains("admit this member"),
        "{}",
        wiped.waiting_for()
    );

    // Once the leader admitted it as a learner it starts, from the configuration of the beginning: in that it has no vote.
    let mut current = configuration.clone();
    current.voters.remove(&PeerId {
        member: MemberId(12),
        incarnation: Incarnation(1),
    });
    current.members.remove(&MemberId(12));
    let learner = PeerId {
        member: MemberId(99),
        incarnation: Incarnation(1),
    };
    current.learners.insert(learner);
    current.members.insert(
        MemberId(99),
        Member {
            incarnation: Incarnation(1),
            name: "n2".into(),
            ..Member::default()
        },
    );
    let admitted = KnownCluster {
        current: current.clone(),
        ..known(cluster, &configuration)
    };
    wiped.handle(
        at(1000),
        BootstrapMessage::Answer {
            from: introduction(1, 11, 3),
            cluster: Some(admitted.clone()),
        },
    );
    assert_eq!(
        started(wiped.outcome()),
        (learner, cluster, configuration.clone())
    );

    // The replaced founder's directory comes back from the dead, never started: it is no longer named.
    let mut replaced = Bootstrap::new(introduction(2, 12, 3), at(0));
    replaced.handle(
        at(0),
        BootstrapMessage::Answer {
            from: introduction(1, 11, 3),
            cluster: Some(admitted),
        },
    );
    assert_eq!(replaced.outcome(), None);
}

#[test]
fn members_that_are_not_listed_are_asked_too() {
    let mut configuration = Configuration::default();
    for id in [11u64, 14, 15] {
        let member = Member {
            incarnation: Incarnation(1),
            name: format!("n{}", id % 10),
            peer_addresses: vec![format!("host{}:2380", id % 10)],
            ..Member::default()
        };
        configuration.members.insert(MemberId(id), member);
    }
    let mut wiped = Bootstrap::new(introduction(2, 99, 3), at(0));
    let names = |bootstrap: &mut Bootstrap, now| -> Vec<String> {
        let messages = bootstrap.poll(now).into_iter();
        messages.map(|(name, _)| name).collect()
    };
    assert_eq!(names(&mut wiped, at(0)), ["n1", "n3"]);
    let answer_of = |nth, cluster| BootstrapMessage::Answer {
        from: introduction(nth, 10 + nth as u64, 3),
        cluster: Some(cluster),
    };
    // Whoever leads, and whoever of those listed leaves next.
    wiped.handle(at(1), answer_of(1, known(5, &configuration)));
    assert_eq!(names(&mut wiped, at(1000)), ["n1", "n3", "n4", "n5"]);
    assert_eq!(wiped.address("n4").as_deref(), Some("host4:2380"));
    assert_eq!(wiped.address("n3").as_deref(), Some("host3:2380"));
    wiped.handle(at(1001), answer_of(4, known(5, &configuration)));
    assert_eq!(wiped.outcome(), None, "it is no stranger");
    wiped.handle(at(1002), answer_of(5, known(6, &configuration)));
    assert_eq!(
        wiped.outcome(),
        None,
        "another cluster has that address now"
    );

    let admitted = PeerId {
        member: MemberId(99),
        incarnation: Incarnation(1),
    };
    let mut current = configuration.clone();
    current.learners.insert(admitted);
    let member = Member {
        incarnation: Incarnation(1),
        name: "n2".into(),
        ..Member::default()
    };
    current.members.insert(MemberId(99), member);
    wiped.handle(at(1003), answer_of(4, known(5, &current)));
    assert_eq!(started(wiped.outcome()).0, admitted);
}

#[test]
fn an_empty_member_that_is_listed_as_an_admitted_voter_does_not_start() {
    let mut configuration = Configuration::default();
    for id in [11u64, 13, 99] {
        configuration.voters.insert(PeerId {
            member: MemberId(id),
            incarnation: Incarnation(1),
        });
        let member = Member {
            incarnation: Incarnation(1),
            name: format!("n{}", id % 10),
            ..Member::default()
        };
        configuration.members.insert(MemberId(id), member);
    }
    configuration.members.get_mut(&MemberId(99)).unwrap().name = "n2".into();
    let mut founders = configuration.clone();
    founders.voters.remove(&PeerId {
        member: MemberId(99),
        incarnation: Incarnation(1),
    });
    let cluster = KnownCluster {
        cluster: 5,
        bootstrap: founders,
        current: configuration,
        leader: None,
    };
    let mut copied = Bootstrap::new(introduction(2, 99, 3), at(0));
    copied.handle(
        at(0),
        BootstrapMessage::Answer {
            from: introduction(1, 11, 3),
            cluster: Some(cluster),
        },
    );
    assert_eq!(
        copied.outcome(),
        None,
        "it has a vote to remember and does not"
    );
}

#[test]
fn misconfigurations_are_refused_with_what_to_do() {
    let mut listed_twice = introduction(1, 11, 3);
    listed_twice.listed.push(("n1".into(), "other:2380".into()));
    assert!(refusal(Bootstrap::new(listed_twice, at(0)).outcome()).contains("listed twice"));

    let mut unlisted = introduction(1, 11, 3);
    unlisted.name = "n7".into();
    assert!(
        refusal(Bootstrap::new(unlisted, at(0)).outcome()).contains("n7 is not in n1=host1:2380")
    );

    let refused = |message: BootstrapMessage| {
        let mut bootstrap = Bootstrap::new(introduction(1, 11, 3), at(0));
        bootstrap.handle(at(0), message);
        refusal(bootstrap.outcome())
    };
    assert!(refused(empty(introduction(2, 12, 4))).contains("start all with the same list"));
    assert!(refused(empty(introduction(1, 12, 3))).contains("also calls itself n1"));
    assert!(refused(empty(introduction(2, 11, 3))).contains("is a copy"));
    assert!(
        refused(empty(Introduction {
            name: "n9".into(),
            ..introduction(2, 12, 3)
        }))
        .contains("answers as n9")
    );

    let mut clash = Bootstrap::new(introduction(1, 11, 3), at(0));
    clash.handle(at(0), empty(introduction(2, 12, 3)));
    clash.handle(at(0), empty(introduction(3, 12, 3)));
    assert!(refusal(clash.outcome()).contains("same id"));

    let mut foreign = Bootstrap::new(introduction(1, 11, 3), at(0));
    for (name, cluster) in [(2usize, 5u64), (3, 6)] {
        let from = introduction(name, 10 + name as u64, 3);
        foreign.handle(
            at(0),
            BootstrapMessage::Answer {
                from,
                cluster: Some(known(cluster, &Configuration::default())),
            },
        );
    }
    assert!(refusal(foreign.outcome()).contains("different clusters"));
}

#[test]
fn its_own_address_and_strangers_do_no_harm() {
    let mut bootstrap = Bootstrap::new(introduction(1, 11, 3), at(0));
    bootstrap.handle(at(0), empty(introduction(1, 11, 3)));
    bootstrap.handle(
        at(0),
        BootstrapMessage::Query(Introduction {
            name: "x".into(),
            ..introduction(2, 50, 3)
        }),
    );
    assert_eq!(bootstrap.outcome(), None);
    let sent = bootstrap.poll(at(0));
    assert_eq!(
        sent.iter()
            .map(|(name, _)| name.as_str())
            .collect::<Vec<_>>(),
        vec!["n2", "n3"],
        "only its own questions"
    );
}

/// It asks each of them for the place of whom that one named, and at once when it first hears.
#[test]
fn it_asks_for_the_place_of_whoever_has_its_name() {
    let mut bootstrap = Bootstrap::new(introduction(2, 99, 3), at(0));
    let asked = |bootstrap: &mut Bootstrap, ms| {
        let question = |(name, message)| match message {
            BootstrapMessage::Query(from) => (name, from.replaces.map(|peer| peer.member.0)),
            message => panic!("{message:?} is no question"),
        };
        let sent = bootstrap.poll(at(ms)).into_iter().map(question);
        sent.collect::<Vec<(String, Option<u64>)>>()
    };
    let (n1, n3) = ("n1".to_owned(), "n3".to_owned());
    let nobody = vec![(n1.clone(), None), (n3.clone(), None)];
    assert_eq!(asked(&mut bootstrap, 0), nobody);
    let with = |holder: u64| {
        let founders = BTreeMap::from([
            ("n1".to_owned(), MemberId(11)),
            ("n2".to_owned(), MemberId(holder)),
            ("n3".to_owned(), MemberId(13)),
        ]);
        known(
            5,
            &first_configuration(&founders, &introduction(2, 99, 3).listed),
        )
    };
    let answer = |nth, holder| BootstrapMessage::Answer {
        from: introduction(nth, 10 + nth as u64, 3),
        cluster: Some(with(holder)),
    };
    bootstrap.handle(at(5), answer(1, 12));
    let first = vec![(n1.clone(), Some(12)), (n3.clone(), None)];
    assert_eq!(asked(&mut bootstrap, 5), first);
    bootstrap.handle(at(6), answer(3, 22));
    let both = vec![(n1.clone(), Some(12)), (n3.clone(), Some(22))];
    assert_eq!(asked(&mut bootstrap, 6), both);
    // What it hears again waits for the next round.
    bootstrap.handle(at(7), answer(1, 22));
    assert_eq!(asked(&mut bootstrap, 7), []);
    assert_eq!(
        asked(&mut bootstrap, 1006),
        [(n1, Some(22)), (n3, Some(22))]
    );
}

#[test]
fn messages_come_back_from_their_wire_form() {
    let configuration = started({
        let mut founder = Bootstrap::new(introduction(1, 11, 2), at(0));
        founder.handle(at(0), empty(introduction(2, 12, 2)));
        founder.outcome()
    })
    .2;
    let leader = Some(PeerId {
        member: MemberId(11),
        incarnation: Incarnation(1),
    });
    let cluster = KnownCluster {
        leader,
        ..known(77, &configuration)
    };
    let messages = [
        BootstrapMessage::Query(Introduction {
            replaces: leader,
            ..introduction(2, u64::MAX, 3)
        }),
        empty(introduction(1, 1, 1)),
        BootstrapMessage::Answer {
            from: introduction(1, 1, 1),
            cluster: Some(cluster),
        },
    ];
    for message in messages {
        let bytes = message.encode();
        assert_eq!(BootstrapMessage::decode(bytes.clone()), Ok(message));
        for length in 0..bytes.len() {
            // Cut anywhere, it is an error or another message, never a panic.
            let _ = BootstrapMessage::decode(bytes.slice(..length));
        }
    }
    assert!(BootstrapMessage::decode(Bytes::from_static(&[200, 1, 2])).is_err());
}

/// A member's directory and process in the exploration below.
struct Host {
    id: u64,
    /// What its directory says: the cluster it belongs to, as whom.
    belongs: Option<(u64, PeerId, Configuration)>,
    process: Option<Bootstrap>,
}

struct World {
    now: u64,
    seed: u64,
    next_id: u64,
    hosts: BTreeMap<String, Host>,
    wire: Vec<(String, String, BootstrapMessage)>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            now: 0,
            seed,
            next_id: 1,
            hosts: BTreeMap::new(),
            wire: Vec::new(),
        };
        for n in 1..=3 {
            world.hosts.insert(
                format!("n{n}"),
                Host {
                    id: 0,
                    belongs: None,
                    process: None,
                },
            );
            world.wipe(&format!("n{n}"));
        }
        world
    }

    fn random(&mut self, below: usize) -> usize {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 33) as usize % below
    }

    fn me(&self, name: &str) -> Introduction {
        Introduction {
            name: name.to_owned(),
            ..introduction(1, self.hosts[name].id, 3)
        }
    }

    fn wipe(&mut self, name: &str) {
        let id = self.next_id;
        self.next_id += 1;
        let host = self.hosts.get_mut(name).unwrap();
        (host.id, host.belongs) = (id, None);
        self.crash(name);
    }

    /// The process ends, its connections with it, and starts again.
    fn crash(&mut self, name: &str) {
        self.wire.retain(|(from, to, _)| from != name && to != name);
        let me = self.me(name);
        let now = at(self.now);
        let host = self.hosts.get_mut(name).unwrap();
        host.process = host.belongs.is_none().then(|| Bootstrap::new(me, now));
    }

    fn settle(&mut self, name: &str) {
        let host = self.hosts.get_mut(name).unwrap();
        if let Some(BootstrapOutcome::Start {
            id,
            cluster,
            configuration,
        }) = host.process.as_ref().and_then(Bootstrap::outcome)
        {
            host.belongs = Some((cluster, id, configuration));
            host.process = None;
        }
    }

    fn deliver(&mut self, nth: usize) {
        let (from, to, message) = self.wire.swap_remove(nth);
        let (now, me) = (at(self.now), self.me(&to));
        let host = self.hosts.get_mut(&to).unwrap();
        match (&mut host.process, &host.belongs) {
            (Some(process), _) => process.handle(now, message),
            (None, Some((cluster, _, configuration))) => {
                if matches!(message, BootstrapMessage::Query(_)) {
                    let answer = BootstrapMessage::Answer {
                        from: me,
                        cluster: Some(known(*cluster, configuration)),
                    };
                    self.wire.push((to.clone(), from, answer));
                }
            }
            (None, None) => {}
        }
        self.settle(&to);
    }

    fn poll(&mut self, name: &str) {
        let now = at(self.now);
        if let Some(process) = &mut self.hosts.get_mut(name).unwrap().process {
            let sent = process.poll(now);
            self.wire.extend(
                sent.into_iter()
                    .map(|(to, message)| (name.to_owned(), to, message)),
            );
        }
        self.settle(name);
    }

    fn check(&self, seed: u64) {
        let mut votes: BTreeMap<u64, usize> = BTreeMap::new();
        for host in self.hosts.values() {
            if let Some((cluster, id, configuration)) = &host.belongs {
                assert_eq!(configuration.voters.len(), 3);
                assert!(
                    configuration.voters.contains(id),
                    "seed {seed}: {id} starts without being listed"
                );
                assert_eq!(id.member.0, host.id, "seed {seed}");
                *votes.entry(*cluster).or_default() += 1;
            }
        }
        let quorums = votes.values().filter(|&&count| count >= 2).count();
        assert!(
            quorums <= 1,
            "seed {seed}: two clusters could decide: {votes:?}"
        );
    }

    fn step(&mut self, wipes: bool) {
        let name = format!("n{}", 1 + self.random(3));
        match self.random(20) {
            0 => self.crash(&name),
            1 if wipes => self.wipe(&name),
            2 if !self.wire.is_empty() => {
                let nth = self.random(self.wire.len());
                self.wire.swap_remove(nth);
            }
            3..=6 => self.now += 400,
            7..=10 => self.poll(&name),
            _ if !self.wire.is_empty() => {
                let nth = self.random(self.wire.len());
                self.deliver(nth);
            }
            _ => self.poll(&name),
        }
    }
}

#[test]
fn no_order_of_messages_and_crashes_makes_two_clusters() {
    for seed in 0..3000 {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step(false);
            world.check(seed);
        }
        for _ in 0..20 {
            world.now += 1000;
            for n in 1..=3 {
                world.poll(&format!("n{n}"));
            }
            while !world.wire.is_empty() {
                world.deliver(0);
            }
        }
        let clusters: Vec<_> = world
            .hosts
            .values()
            .map(|host| host.belongs.clone().map(|(cluster, _, c)| (cluster, c)))
            .collect();
        assert!(
            clusters
                .iter()
                .all(|cluster| cluster.is_some() && *cluster == clusters[0]),
            "seed {seed}: {clusters:?}"
        );
    }
}

#[test]
fn no_order_of_messages_crashes_and_wipes_makes_two_deciding_clusters() {
    for seed in 0..3000 {
        let mut world = World::new(seed);
        for _ in 0..200 {
            world.step(true);
            world.check(seed);
        }
    }
}

#[test]
fn a_wiped_minority_waits_while_anybody_remembers() {
    for wiped in [vec!["n1"], vec!["n1", "n2"]] {
        let mut world = World::new(1);
        let settle = |world: &mut World| {
            for _ in 0..10 {
                world.now += 1000;
                for n in 1..=3 {
                    world.poll(&format!("n{n}"));
                }
                while !world.wire.is_empty() {
                    world.deliver(0);
                }
            }
        };
        settle(&mut world);
        for name in &wiped {
            world.wipe(name);
        }
        settle(&mut world);
        for name in &wiped {
            assert!(
                world.hosts[*name].belongs.is_none(),
                "{name} started, with {wiped:?} wiped"
            );
        }
    }
}

/// Found by the simulator (churn 1137): two members with new disks, told of different members, refused each other.
#[test]
fn a_member_that_joins_calls_itself_empty_to_nobody_and_minds_no_other_list() {
    let mut joins = Bootstrap::joining(introduction(2, 12, 3), at(0));
    joins.poll(at(0));
    joins.handle(at(1), BootstrapMessage::Query(introduction(1, 11, 3)));
    let said = joins.poll(at(1));
    assert!(
        !said
            .iter()
            .any(|(_, message)| matches!(message, BootstrapMessage::Answer { .. })),
        "{said:?}"
    );
    joins.handle(
        at(2),
        BootstrapMessage::Answer {
            from: introduction(1, 11, 4),
            cluster: None,
        },
    );
    assert_eq!(joins.outcome(), None);
}
