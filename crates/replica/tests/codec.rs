//! The wire form of messages: what is written can be read, and no bytes make a member panic or build more than they hold.

extern crate synod_replica as replica;

use bytes::Bytes;
use proptest::prelude::*;
use raft::{Configuration, Incarnation, Index, Member, MemberId, PeerId, SnapshotMark, Term};
use replica::{
    Advertised, BootstrapMessage, ChangeBegun, ChangeRequest, Introduction, MemberChange, Message,
    Refusal, RefusalReason,
};

fn configuration() -> Configuration {
    let mut configuration = Configuration::default();
    for id in [7, u64::MAX] {
        configuration.voters.insert(PeerId {
            member: MemberId(id),
            incarnation: Incarnation(2),
        });
        let member = Member {
            incarnation: Incarnation(2),
            name: format!("n{id}"),
            peer_addresses: vec!["a:1".into(), "b:2".into()],
            ..Member::default()
        };
        configuration.members.insert(MemberId(id), member);
    }
    configuration
}

fn messages() -> Vec<Message> {
    let mark = SnapshotMark {
        index: Index(5),
        term: Term(3),
        configuration: configuration(),
    };
    vec![
        Message::SnapshotChunk {
            mark,
            bytes_total: 10,
            checksum: 0xdead_beef,
            offset: 4,
            bytes: Bytes::from_static(b"abcdef"),
        },
        Message::SnapshotAck {
            index: u64::MAX,
            offset: 1,
        },
        Message::StateHash {
            index: 1024,
            hash: 0x0123_4567_89ab_cdef,
        },
        Message::Publish(Advertised {
            peer_addresses: vec!["h:1".into()],
            client_addresses: vec![],
            feature_level: 3,
            priority: 0,
        }),
        Message::StateWanted { from: 2048 },
        Message::ChangeAsked {
            sequence: 9,
            request: ChangeRequest {
                changes: vec![
                    MemberChange::Add {
                        member: MemberId(4),
                        peer_addresses: vec!["h:4".into()],
                        stays_learner: true,
                        replaces: Some(MemberId(1)),
                    },
                    MemberChange::Promote(MemberId(5)),
                    MemberChange::Remove(MemberId(6)),
                    MemberChange::Move {
                        member: MemberId(7),
                        peer_addresses: vec!["h:7".into()],
                    },
                ],
                as_etcd: true,
            },
        },
        Message::ChangeAnswered {
            sequence: 9,
            outcome: Ok(ChangeBegun {
                index: Index(12),
                term: Term(3),
            }),
        },
        Message::ChangeAnswered {
            sequence: 9,
            outcome: Err(Refusal {
                reason: RefusalReason::LosesQuorum,
                text: "no".into(),
            }),
        },
        Message::ShortOfSpace,
    ]
}

#[test]
fn messages_come_back() {
    for message in messages() {
        assert_eq!(Message::decode(message.encode()), Ok(message));
    }
}

#[test]
fn golden_bytes() {
    let hex = |bytes: Bytes| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let all = messages();
    assert_eq!(hex(all[1].encode()), "0308ffffffffffffffffff011001");
    assert_eq!(hex(all[2].encode()), "0408800811efcdab8967452301");
    assert_eq!(hex(all[3].encode()), "050a03683a311803");
    assert_eq!(hex(all[4].encode()), "06088010");
    assert_eq!(
        hex(all[5].encode()),
        "07090900000000000000121b08011104000000000000001a03683a342001290100000000000000120b0802110500000000000000120b0803110600000000000000121008041107000000000000001a03683a371801"
    );
    assert_eq!(hex(all[6].encode()), "08090900000000000000100c1803");
    assert_eq!(hex(all[7].encode()), "080909000000000000002206080a12026e6f");
    assert_eq!(hex(all[8].encode()), "09");
    let query = BootstrapMessage::Query(Introduction {
        name: "n1".into(),
        member: MemberId(1),
        incarnation: Incarnation(2),
        replaces: Some(PeerId {
            member: MemberId(1),
            incarnation: Incarnation(3),
        }),
        listed: vec![("n1".into(), "h:1".into())],
    });
    assert_eq!(
        hex(query.encode()),
        "400a026e311101000000000000001a090a026e311203683a3120022a0b0901000000000000001003"
    );
}

#[test]
fn a_piece_beyond_the_end_of_its_snapshot_is_refused() {
    let mark = SnapshotMark {
        index: Index(5),
        term: Term(3),
        configuration: configuration(),
    };
    for (bytes_total, offset) in [(5, 0), (10, 5), (10, u64::MAX)] {
        let bytes = Bytes::from_static(b"abcdef");
        let message = Message::SnapshotChunk {
            mark: mark.clone(),
            bytes_total,
            checksum: 0,
            offset,
            bytes,
        };
        assert!(
            Message::decode(message.encode()).is_err(),
            "6 bytes at {offset} of {bytes_total}"
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Message::decode(Bytes::from(bytes.clone()));
        let _ = BootstrapMessage::decode(Bytes::from(bytes));
    }

    #[test]
    fn flipped_and_cut_messages_never_panic(which in 0usize..8, at in any::<prop::sample::Index>(), bit in 0u8..8, cut in any::<prop::sample::Index>()) {
        let mut bytes = messages()[which].encode().to_vec();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = Message::decode(Bytes::from(bytes));
    }
}
