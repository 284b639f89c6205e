//! Requests of every shape that the API knows, drawn from the seed: as clients write them that use all of it, and within what its doors let through.

use crate::rng::Rng;
use bytes::Bytes;
use state::{Compare, DeleteRange, Put, Range, Txn, TxnOperation, TxnStep};

/// Transactions inside one another at most.
const DEPTH_MAX: u64 = 2;
/// How far requests look back, in revisions.
const BACK_MAX: u64 = 60;

/// What requests are drawn from.
pub(crate) struct Shapes<'a> {
    /// The seed's.
    pub rng: &'a mut Rng,
    /// Keys of a kind.
    pub keys: u64,
    /// The newest revision somebody saw.
    pub revision: i64,
    /// Leases there may be.
    pub leases: &'a [i64],
    /// What is put.
    pub value: Bytes,
}

/// Keys at the edges of what a key may be.
const EDGES: [&[u8]; 6] = [b"\0", b"m\0", b"m0\0", b"m\xff", b"\xff", b"\xff\xff"];

/// First keys and ends: kinds of keys, all keys, all from one on, single ones, and none.
const SPANS: [(&[u8], &[u8]); 10] = [
    (b"k", b"m"),
    (b"a", b"z"),
    (b"m", b"n"),
    (b"m", b"m\xff"),
    (b"\0", b"\0"),
    (b"l", b"\0"),
    (b"m\xff", b"\0"),
    (b"\xff", b"\0"),
    (b"m1", b"m1\0"),
    (b"m2", b"m2"),
];

impl Shapes<'_> {
    /// A key that transactions write, now and then one at the edges.
    pub fn key(&mut self) -> Bytes {
        if self.rng.chance(150) {
            let edge = *self.rng.pick(&EDGES);
            return Bytes::from_static(edge);
        }
        Bytes::from(format!("m{}", self.rng.below(self.keys)))
    }

    /// A key of any kind.
    fn any_key(&mut self) -> Bytes {
        let kind = *self.rng.pick(&["k", "l", "m"]);
        match self.rng.chance(200) {
            true => self.key(),
            false => Bytes::from(format!("{kind}{}", self.rng.below(self.keys))),
        }
    }

    fn span(&mut self) -> (Bytes, Bytes) {
        if self.rng.chance(400) {
            return (self.any_key(), Bytes::new());
        }
        let (key, end) = *self.rng.pick(&SPANS);
        (Bytes::from_static(key), Bytes::from_static(end))
    }

    fn lease(&mut self) -> i64 {
        if self.leases.is_empty() || self.rng.chance(50) {
            return 1 << 50;
        }
        *self.rng.pick(self.leases)
    }

    /// A revision somewhere around the newest ones.
    fn revision(&mut self) -> i64 {
        (self.revision + 3 - self.rng.below(BACK_MAX) as i64).max(1)
    }

    /// A read of keys with everything that can be asked of it.
    pub fn range(&mut self) -> Range {
        let (key, range_end) = self.span();
        let rng = &mut *self.rng;
        let limit = if rng.chance(500) { rng.below(7) } else { 0 };
        let (order, target) = (rng.below(3), rng.below(5));
        let sorted = rng.chance(600);
        let mut bound = |permille| {
            let wanted = self.rng.chance(permille);
            if wanted { self.revision() } else { 0 }
        };
        let revision = bound(250);
        let bounds = [bound(150), bound(150), bound(150), bound(150)];
        Range {
            key,
            range_end,
            limit: limit as i64,
            revision,
            sort_order: if sorted { order as i32 } else { 0 },
            sort_target: if sorted { target as i32 } else { 0 },
            keys_only: self.rng.chance(200),
            count_only: self.rng.chance(100),
            min_mod_revision: bounds[0],
            max_mod_revision: bounds[1],
            min_create_revision: bounds[2],
            max_create_revision: bounds[3],
        }
    }

    /// A put to a key, with all that can be asked of it. What is kept must not be given.
    pub fn put(&mut self, key: Bytes) -> Put {
        let lease = if self.rng.chance(300) {
            self.lease()
        } else {
            0
        };
        let ignore_value = self.rng.chance(100);
        let bare = ignore_value || self.rng.chance(100);
        Put {
            key,
            value: if bare {
                Bytes::new()
            } else {
                self.value.clone()
            },
            lease,
            prev_kv: self.rng.chance(400),
            ignore_value,
            ignore_lease: lease == 0 && self.rng.chance(150),
        }
    }

    /// A removal of one key of transactions, or several, or of those at the very end.
    pub fn delete(&mut self) -> DeleteRange {
        let (key, range_end) = match self.rng.below(6) {
            0 => (Bytes::from_static(b"m"), Bytes::from_static(b"n")),
            // Of its own kind: the histories of others are searched, and know of no such removal.
            1 => (self.key().max("m".into()), Bytes::from_static(b"n")),
            2 => (Bytes::from_static(b"\xff"), Bytes::from_static(b"\0")),
            3 => (Bytes::from_static(b"m1"), Bytes::from_static(b"m3")),
            _ => (self.key(), Bytes::new()),
        };
        DeleteRange {
            key,
            range_end,
            prev_kv: self.rng.chance(500),
        }
    }

    /// A comparison by any target, over a key or a range. Numbers that the API does not know come rarely.
    pub fn compare(&mut self) -> Compare {
        let (key, range_end) = self.span();
        let unknown = self.rng.chance(20);
        let target = if unknown { 9 } else { self.rng.below(5) as i32 };
        let unknown = self.rng.chance(20);
        let result = if unknown { 9 } else { self.rng.below(4) as i32 };
        let number = match target {
            0 => self.rng.below(5) as i64,
            4 if self.rng.chance(500) => self.lease(),
            1 | 2 if self.rng.chance(900) => self.revision(),
            _ => 0,
        };
        let value = match target {
            3 if self.rng.chance(800) => self.value.clone(),
            _ => Bytes::new(),
        };
        Compare {
            result,
            target,
            key,
            range_end,
            number,
            value,
        }
    }

    /// A transaction with transactions in it.
    pub fn txn(&mut self) -> Txn {
        let mut unwritten = self.unwritten();
        match self.rng.below(12) {
            0 => Txn::default(),
            1 => self.sweep(&mut unwritten),
            2 => self.replacement(),
            _ => self.tree(0, &mut unwritten),
        }
    }

    /// A transaction that writes nothing.
    pub fn read_txn(&mut self) -> Txn {
        self.tree(0, &mut Vec::new())
    }

    /// The keys that a transaction may write, in any order: each once, as its doors demand.
    fn unwritten(&mut self) -> Vec<Bytes> {
        let mut keys: Vec<Bytes> = (0..self.keys)
            .map(|n| Bytes::from(format!("m{n}")))
            .chain(EDGES.map(Bytes::from_static))
            .collect();
        for last in (1..keys.len()).rev() {
            keys.swap(last, self.rng.below(last as u64 + 1) as usize);
        }
        keys
    }

    fn tree(&mut self, depth: u64, unwritten: &mut Vec<Bytes>) -> Txn {
        let compares = (0..self.rng.below(4)).map(|_| self.compare()).collect();
        // Only one of the branches runs, so both may write a key.
        let mut other = unwritten.clone();
        let success = self.branch(depth, unwritten);
        let failure = self.branch(depth, &mut other);
        unwritten.retain(|key| other.contains(key));
        Txn {
            compares,
            success,
            failure,
        }
    }

    fn branch(&mut self, depth: u64, unwritten: &mut Vec<Bytes>) -> Vec<TxnOperation> {
        let steps = self.rng.below(5);
        (0..steps).map(|_| self.step(depth, unwritten)).collect()
    }

    fn step(&mut self, depth: u64, unwritten: &mut Vec<Bytes>) -> TxnOperation {
        let kind = self.rng.below(8);
        whole(match (kind, unwritten.pop()) {
            (0 | 1, _) if depth < DEPTH_MAX => TxnStep::Txn(self.tree(depth + 1, unwritten)),
            (2..5, Some(key)) => TxnStep::Put(self.put(key)),
            (5, Some(key)) => TxnStep::DeleteRange(DeleteRange {
                key,
                range_end: Bytes::new(),
                prev_kv: self.rng.chance(500),
            }),
            _ => TxnStep::Range(self.narrow_range()),
        })
    }

    /// A read inside of a transaction: of all keys that there may be, only how many there are.
    fn narrow_range(&mut self) -> Range {
        let range = self.range();
        Range {
            count_only: range.count_only || range.key[..] < b"k"[..],
            ..range
        }
    }

    /// Puts, and after them the removal of all that they may have put.
    fn sweep(&mut self, unwritten: &mut Vec<Bytes>) -> Txn {
        let first = (0..2).filter_map(|_| unwritten.pop());
        let puts: Vec<_> = first.collect();
        let puts = puts
            .into_iter()
            .map(|key| whole(TxnStep::Put(self.put(key))));
        let put = Txn {
            success: puts.collect(),
            ..Txn::default()
        };
        let everything = DeleteRange {
            key: "m".into(),
            range_end: "n".into(),
            prev_kv: self.rng.chance(500),
        };
        let remove = Txn {
            success: vec![
                whole(TxnStep::Range(self.narrow_range())),
                whole(TxnStep::DeleteRange(everything)),
                whole(TxnStep::Range(self.narrow_range())),
            ],
            ..Txn::default()
        };
        Txn {
            success: vec![whole(TxnStep::Txn(put)), whole(TxnStep::Txn(remove))],
            ..Txn::default()
        }
    }

    /// The removal of all keys from one on, and puts of some of them: doors let pass what names no end.
    fn replacement(&mut self) -> Txn {
        let mut steps = vec![
            TxnStep::DeleteRange(DeleteRange {
                key: Bytes::from_static(b"\xff"),
                range_end: Bytes::from_static(b"\0"),
                prev_kv: self.rng.chance(500),
            }),
            TxnStep::Put(self.put(Bytes::from_static(b"\xff"))),
        ];
        if self.rng.chance(300) {
            steps.swap(0, 1);
        }
        steps.push(TxnStep::Range(self.narrow_range()));
        Txn {
            success: steps.into_iter().map(whole).collect(),
            ..Txn::default()
        }
    }
}

fn whole(step: TxnStep) -> TxnOperation {
    TxnOperation { step: Some(step) }
}
