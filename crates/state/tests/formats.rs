//! Golden bytes: what is written in logs and snapshots must never change meaning.

use bytes::Bytes;
use prost::Message;
use synod_state::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded(operation: Operation) -> String {
    hex(&Command {
        operation: Some(operation),
        ..Command::default()
    }
    .encode_to_vec())
}

fn key(key: &'static str) -> Bytes {
    Bytes::from_static(key.as_bytes())
}

#[test]
fn batch_has_its_bytes() {
    let group = Group {
        member: 1,
        incarnation: 2,
        boot: 3,
        sequence: 4,
        renewals: vec![5, -1],
        commands: vec![Command::default()],
    };
    let batch = Batch {
        format: 1,
        clock_ms: 1000,
        wall_ms: 2000,
        groups: vec![group],
    };
    assert_eq!(
        hex(&batch.encode_to_vec()),
        "080110e80718d00f2225090100000000000000100219030000000000000020042a0b05ffffffffffffffffff013200"
    );
}

#[test]
fn envelope_has_its_bytes() {
    let command = Command {
        version: 1,
        client: 2,
        sequence: 3,
        acknowledged_below: 4,
        principal: "p".into(),
        auth_revision: 5,
        guards: vec![Guard {
            model: 1,
            name: key("l"),
            token: 7,
        }],
        session: 8,
        connection_epoch: 9,
        trace: key("t"),
        operation: None,
    };
    assert_eq!(
        hex(&command.encode_to_vec()),
        "08011002180320042a017030053a07080112016c180740084809520174"
    );
}

#[test]
fn operations_have_their_bytes() {
    let put = Put {
        key: key("k"),
        value: key("v"),
        lease: 1,
        prev_kv: true,
        ignore_value: true,
        ignore_lease: true,
    };
    let delete = DeleteRange {
        key: key("a"),
        range_end: key("b"),
        prev_kv: true,
    };
    let range = Range {
        key: key("a"),
        range_end: key("b"),
        limit: 3,
        revision: 4,
        sort_order: 1,
        sort_target: 2,
        keys_only: true,
        count_only: true,
        min_mod_revision: 9,
        max_mod_revision: 10,
        min_create_revision: 11,
        max_create_revision: 12,
    };
    let compare = Compare {
        result: 1,
        target: 3,
        key: key("k"),
        range_end: key("l"),
        number: 5,
        value: key("v"),
    };
    let step = |step| TxnOperation { step: Some(step) };
    let inner = Txn {
        compares: vec![],
        success: vec![],
        failure: vec![],
    };
    let txn = Txn {
        compares: vec![compare],
        success: vec![step(TxnStep::Range(range)), step(TxnStep::Put(put.clone()))],
        failure: vec![
            step(TxnStep::DeleteRange(delete.clone())),
            step(TxnStep::Txn(inner)),
        ],
    };
    let all = [
        encoded(Operation::Put(put)),
        encoded(Operation::DeleteRange(delete)),
        encoded(Operation::Txn(txn)),
        encoded(Operation::Compact(Compact { revision: 300 })),
        encoded(Operation::LeaseGrant(LeaseGrant {
            id: 7,
            ttl_ms: 5000,
        })),
        encoded(Operation::LeaseRevoke(LeaseRevoke { id: 7 })),
        encoded(Operation::SetFeatureLevel(SetFeatureLevel { level: 1 })),
        encoded(Operation::SetBytesMax(SetBytesMax { bytes_max: 1 << 31 })),
        encoded(Operation::SetAlarm(SetAlarm {
            kind: AlarmKind::Corrupt as i32,
            member: 7,
            raise: true,
        })),
        encoded(Operation::AutoCompact(Compact { revision: 300 })),
    ];
    let golden = [
        "82010e0a016b1201761801200128013001",
        "8a01080a01611201621801",
        "9201510a0f080110031a016b22016c2805320176121c0a1a0a01611201621803200428013002380140014809500a580b600c1210120e0a016b12017618012001280130011a0a1a080a016112016218011a022200",
        "9a010308ac02",
        "a201050807108827",
        "aa01020807",
        "b201020801",
        "f20106088080808008",
        "fa010d08021107000000000000001801",
        "82020308ac02",
    ];
    assert_eq!(all, golden);
}
