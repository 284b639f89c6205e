//! The wire form: everything comes back, the bytes stay what they are, and nothing that arrives can panic.

use super::*;
use proptest::prelude::*;

fn peers() -> impl Strategy<Value = BTreeSet<PeerId>> {
    let peer = (any::<u64>(), any::<u32>()).prop_map(|(member, incarnation)| PeerId {
        member: MemberId(member),
        incarnation: Incarnation(incarnation),
    });
    prop::collection::btree_set(peer, 0..4)
}

fn member() -> impl Strategy<Value = (MemberId, Member)> {
    let addresses = || prop::collection::vec("[a-z:0-9]{0,9}", 0..3);
    (
        any::<u64>(),
        any::<u32>(),
        ".{0,6}",
        addresses(),
        addresses(),
        (any::<u32>(), any::<u32>()),
        (any::<Option<u64>>(), any::<bool>(), any::<Option<u64>>()),
        addresses(),
    )
        .prop_map(
            |(
                id,
                incarnation,
                name,
                peer_addresses,
                client_addresses,
                (feature_level, priority),
                (taken_by, stays_learner, replaces),
                overruled,
            )| {
                let incarnation = Incarnation(incarnation);
                (
                    MemberId(id),
                    Member {
                        incarnation,
                        name,
                        peer_addresses,
                        client_addresses,
                        feature_level,
                        priority,
                        taken_by: taken_by.map(MemberId),
                        stays_learner,
                        replaces: replaces.map(MemberId),
                        overruled,
                    },
                )
            },
        )
}

fn configuration() -> impl Strategy<Value = Configuration> {
    (
        peers(),
        peers(),
        peers(),
        peers(),
        prop::collection::btree_map(any::<u64>(), member(), 0..4),
        prop::collection::vec(any::<u64>(), 0..3),
    )
        .prop_map(
            |(voters, outgoing, learners, learners_next, members, departed)| Configuration {
                voters,
                outgoing,
                learners,
                learners_next,
                members: members.into_values().collect(),
                departed: departed.into_iter().map(MemberId).collect(),
            },
        )
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|bytes| Payload::Batch(bytes.into())),
        configuration().prop_map(Payload::Configuration),
    ]
}

fn append() -> impl Strategy<Value = Body> {
    (
        0u64..1 << 40,
        0u64..9,
        any::<u64>(),
        prop::collection::vec((0u64..3, payload()), 0..5),
    )
        .prop_map(|(prev_index, prev_term, commit, payloads)| {
            let mut term = prev_term;
            let entries = payloads
                .into_iter()
                .enumerate()
                .map(|(nth, (step, payload))| {
                    term += step;
                    Entry {
                        index: Index(prev_index + 1 + nth as u64),
                        term: Term(term),
                        payload,
                    }
                })
                .collect();
            Body::Append {
                prev_index: Index(prev_index),
                prev_term: Term(prev_term),
                commit: Index(commit),
                entries,
            }
        })
}

fn body() -> impl Strategy<Value = Body> {
    let n = any::<u64>;
    let rejection = prop::option::of((n(), n(), n()).prop_map(|(prev, index, term)| Rejection {
        prev_index: Index(prev),
        hint_index: Index(index),
        hint_term: Term(term),
    }));
    let recovery = prop::option::of((n(), n(), n()).prop_map(|(boot, index, term)| Recovery {
        boot: Boot(boot),
        index: Index(index),
        term: Term(term),
    }));
    prop_oneof![
        (n(), n(), n()).prop_map(|(c, i, t)| Body::PreVote {
            campaign: Term(c),
            last_index: Index(i),
            last_term: Term(t)
        }),
        (n(), any::<bool>()).prop_map(|(c, granted)| Body::PreVoteReply {
            campaign: Term(c),
            granted
        }),
        (n(), n(), any::<bool>()).prop_map(|(i, t, transfer)| Body::Vote {
            last_index: Index(i),
            last_term: Term(t),
            transfer
        }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        append(),
        (n(), rejection, n(), any::<bool>()).prop_map(|(m, rejected, b, amnesiac)| {
            Body::AppendReply {
                matched: Index(m),
                rejected,
                boot: Boot(b),
                amnesiac,
            }
        }),
        (n(), n(), n(), n(), n(), recovery).prop_map(|(round, b, s, c, t, recovery)| {
            Body::Heartbeat {
                round,
                boot: Boot(b),
                sent: Instant(s),
                commit: Index(c),
                commit_term: Term(t),
                recovery,
            }
        }),
        (n(), n(), n(), n(), any::<bool>()).prop_map(|(round, l, s, b, amnesiac)| {
            Body::HeartbeatReply {
                round,
                leader_boot: Boot(l),
                sent: Instant(s),
                boot: Boot(b),
                amnesiac,
            }
        }),
        (n(), n()).prop_map(|(b, request)| Body::ReadIndex {
            boot: Boot(b),
            request
        }),
        (n(), n(), n()).prop_map(|(b, request, i)| Body::ReadIndexReply {
            boot: Boot(b),
            request,
            index: Index(i)
        }),
        (
            n(),
            n(),
            n(),
            n(),
            prop::collection::vec(any::<u8>(), 0..20)
        )
            .prop_map(|(b, epoch, position, sequence, body)| {
                Body::Forward {
                    boot: Boot(b),
                    epoch,
                    position,
                    sequence,
                    body: body.into(),
                }
            }),
        (n(), n(), n()).prop_map(|(b, epoch, position)| Body::ForwardRefused {
            boot: Boot(b),
            epoch,
            position
        }),
        Just(Body::TimeoutNow),
        Just(Body::StaleTerm),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    // Past the terms of any generated entry.
    (30u64..TERM_MAX, any::<u32>(), body()).prop_map(|(term, to, body)| Message {
        term: Term(term),
        to: Incarnation(to),
        body,
    })
}

proptest! {
    #[test]
    fn messages_come_back(message in message()) {
        prop_assert_eq!(Message::decode(message.encode()), Ok(message));
    }

    #[test]
    fn configurations_come_back(configuration in configuration()) {
        prop_assert_eq!(Configuration::decode(configuration.encode()), Ok(configuration));
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut versioned = vec![VERSION];
        versioned.extend_from_slice(&bytes);
        for bytes in [bytes, versioned] {
            if let Ok(message) = Message::decode(bytes.clone().into()) {
                prop_assert_eq!(Message::decode(message.encode()), Ok(message));
            }
            if let Ok(configuration) = Configuration::decode(bytes.into()) {
                prop_assert_eq!(Configuration::decode(configuration.encode()), Ok(configuration));
            }
        }
    }

    #[test]
    fn damaged_messages_are_read_or_refused(message in message(), place in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<bool>()) {
        let mut bytes = message.encode().to_vec();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] ^= 1 << bit }
        if let Ok(message) = Message::decode(bytes.into()) {
            prop_assert_eq!(Message::decode(message.encode()), Ok(message));
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The wire form must not change under members of an older version.
#[test]
fn wire_form_is_what_it_was() {
    let entries = vec![
        Entry {
            index: Index(8),
            term: Term(2),
            payload: Payload::Noop,
        },
        Entry {
            index: Index(9),
            term: Term(3),
            payload: Payload::Batch(Bytes::from_static(b"ab")),
        },
    ];
    let body = Body::Append {
        prev_index: Index(7),
        prev_term: Term(2),
        commit: Index(6),
        entries,
    };
    let append = Message {
        term: Term(3),
        to: Incarnation(1),
        body,
    };
    assert_eq!(
        hex(&append.encode()),
        "01080310011a12080710021806220208022206080312026162"
    );

    let body = Body::AppendReply {
        matched: Index(9),
        rejected: None,
        boot: Boot(5),
        amnesiac: false,
    };
    let reply = Message {
        term: Term(3),
        to: Incarnation(0),
        body,
    };
    assert_eq!(
        hex(&reply.encode()),
        "01080322 0b0809190500000000000000".replace(' ', "")
    );

    let voter = PeerId {
        member: MemberId(1),
        incarnation: Incarnation(2),
    };
    let member = Member {
        incarnation: Incarnation(2),
        name: "n1".into(),
        peer_addresses: vec!["h:1".into()],
        ..Member::default()
    };
    let configuration = Configuration {
        voters: [voter].into(),
        members: [(MemberId(1), member)].into(),
        ..Configuration::default()
    };
    assert_eq!(
        hex(&configuration.encode()),
        "010a0b090100000000000000100 22a14090100000000000000100 21a026e312203683a31"
            .replace(' ', "")
    );
}

#[test]
fn impossible_appends_are_refused() {
    let append = |term: u64, terms: &[u64], prev_index: u64| {
        let entries = terms
            .iter()
            .map(|&term| WireEntry {
                term,
                batch: None,
                configuration: None,
            })
            .collect();
        let body = Some(WireBody::Append(WireAppend {
            prev_index,
            prev_term: 2,
            commit: 0,
            entries,
        }));
        Message::decode(encode_versioned(&WireMessage { term, to: 0, body }))
            .map_err(|error| error.0)
    };
    assert!(append(3, &[2, 3], 7).is_ok());
    assert_eq!(
        append(3, &[3, 2], 7).unwrap_err(),
        "entry 9 has term 2, after 3 from a leader of term 3"
    );
    assert_eq!(
        append(3, &[4], 7).unwrap_err(),
        "entry 8 has term 4, after 2 from a leader of term 3"
    );
    assert_eq!(
        append(3, &[3], u64::MAX - 1).unwrap_err(),
        "entries after index 18446744073709551614 overflow"
    );
    assert!(
        append(u64::MAX, &[], 0)
            .unwrap_err()
            .starts_with("term 18446744073709551615 is too large")
    );
}

#[test]
fn unknown_versions_are_named() {
    assert_eq!(
        Message::decode(Bytes::from_static(&[9, 8, 3]))
            .unwrap_err()
            .0,
        "version 9 is unknown, only 1 is known"
    );
    assert_eq!(Message::decode(Bytes::new()).unwrap_err().0, "no bytes");
    assert_eq!(
        Message::decode(Bytes::from_static(&[1, 8, 3]))
            .unwrap_err()
            .0,
        "a message without a known body"
    );
}
