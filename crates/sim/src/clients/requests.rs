//! What the writers change, drawn from the seed.

use super::*;

/// Leases that anybody may grant and revoke.
const COMMON_LEASES: [i64; 3] = [1, 2, 3];

impl Clients {
    pub(super) fn key(&mut self, prefix: char) -> Bytes {
        Bytes::from(format!("{prefix}{}", self.rng.below(self.load.keys)))
    }

    pub(super) fn write(&mut self, client: usize) {
        if self.closing {
            return;
        }
        let request = self.number();
        if self.is_paging(client) && self.rng.chance(700) {
            return self.read(client, request);
        }
        let body = match self.rng.below(100) {
            0..30 => self.put(request),
            30..39 => self.swap(request),
            39..45 => {
                let delete = DeleteRange {
                    key: self.key('k'),
                    prev_kv: self.rng.chance(300),
                    ..DeleteRange::default()
                };
                Operation::DeleteRange(delete)
            }
            45..50 => self.transaction(request),
            50..56 => Operation::Txn(self.shapes(request, |shapes| shapes.txn())),
            56..61 => self.rarity(request),
            63..71 if self.load.bulk => self.bulk(),
            61..63 => {
                let revision = (self.revision - self.rng.below(60) as i64).max(1);
                Operation::Compact(Compact { revision })
            }
            _ => return self.read(client, request),
        };
        self.propose(client, request, body);
    }

    /// Draws from all that the API knows.
    pub(super) fn shapes<R>(&mut self, request: u64, draw: impl FnOnce(&mut Shapes<'_>) -> R) -> R {
        let leases = self.leases();
        draw(&mut Shapes {
            rng: &mut self.rng,
            keys: self.load.keys,
            revision: self.revision,
            leases: &leases,
            value: value_of(request),
        })
    }

    /// Leases there may be: those of lessees, and those that anybody may grant and revoke.
    pub(super) fn leases(&self) -> Vec<i64> {
        let of_lessee = |client: &Client| match &client.kind {
            Kind::Lessee(lessee) => Some(lessee.lease),
            _ => None,
        };
        let lessees = self.clients.iter().filter_map(of_lessee);
        lessees.chain(COMMON_LEASES).collect()
    }

    /// What clients ask more rarely: puts and removals with all that can be asked of them, leases of nobody and of others, and what makes no sense.
    fn rarity(&mut self, request: u64) -> Operation {
        let leased = self.key('l');
        match self.rng.below(20) {
            0..5 => Operation::Put(self.shapes(request, |shapes| {
                let key = shapes.key();
                shapes.put(key)
            })),
            // Takes a key from its lease, or to another one.
            5..8 => Operation::Put(self.shapes(request, |shapes| shapes.put(leased))),
            8..12 => Operation::DeleteRange(self.shapes(request, |shapes| shapes.delete())),
            12..15 => Operation::LeaseGrant(LeaseGrant {
                id: *self.rng.pick(&self.leases()),
                // Short enough to have ended when the life does: while there are leases, members are not at rest.
                ttl_ms: self.rng.between(1_000, 6_000),
            }),
            15 | 16 => Operation::LeaseRevoke(LeaseRevoke {
                id: *self.rng.pick(&COMMON_LEASES),
            }),
            17 | 18 => Operation::Compact(Compact {
                revision: match self.rng.below(4) {
                    0 => 0,
                    1 => -1,
                    2 => 1 + self.rng.below(self.revision as u64) as i64 / 2,
                    _ => self.revision + self.rng.between(1, 1_000) as i64,
                },
            }),
            _ => self.nonsense(),
        }
    }

    /// What every member must refuse, by whatever way it came.
    fn nonsense(&mut self) -> Operation {
        match self.rng.below(4) {
            0 => Operation::Put(Put::default()),
            1 => Operation::LeaseGrant(LeaseGrant {
                id: 0,
                ttl_ms: 5_000,
            }),
            2 => Operation::Txn(Txn {
                failure: vec![step(TxnStep::Put(Put::default()))],
                ..Txn::default()
            }),
            _ => Operation::Txn(Txn {
                success: vec![TxnOperation { step: None }],
                ..Txn::default()
            }),
        }
    }

    fn put(&mut self, request: u64) -> Operation {
        let put = Put {
            key: self.key('k'),
            value: value_of(request),
            prev_kv: self.rng.chance(300),
            ..Put::default()
        };
        self.seen.insert(put.key.clone(), Some(put.value.clone()));
        Operation::Put(put)
    }

    /// Compares a key with what was seen last, and sets it; reads it if it differs.
    fn swap(&mut self, request: u64) -> Operation {
        let key = self.key('k');
        let compare = match self.seen.get(&key).cloned().flatten() {
            Some(value) => Compare {
                target: 3,
                key: key.clone(),
                value,
                ..Compare::default()
            },
            None => Compare {
                target: 1,
                key: key.clone(),
                number: 0,
                ..Compare::default()
            },
        };
        let put = Put {
            key: key.clone(),
            value: value_of(request),
            ..Put::default()
        };
        self.seen.insert(key.clone(), Some(put.value.clone()));
        let range = Range {
            key,
            ..Range::default()
        };
        Operation::Txn(Txn {
            compares: vec![compare],
            success: vec![step(TxnStep::Put(put))],
            failure: vec![step(TxnStep::Range(range))],
        })
    }

    /// Several keys at once: one revision, whole or not at all, and later steps see earlier ones.
    fn transaction(&mut self, request: u64) -> Operation {
        let first = self.rng.below(self.load.keys);
        let key = |n: u64| Bytes::from(format!("m{}", n % self.load.keys));
        let put = |n: u64| {
            step(TxnStep::Put(Put {
                key: key(n),
                value: value_of(request),
                prev_kv: true,
                ..Put::default()
            }))
        };
        let delete = step(TxnStep::DeleteRange(DeleteRange {
            key: key(first + 2),
            prev_kv: true,
            ..DeleteRange::default()
        }));
        let range = step(TxnStep::Range(Range {
            key: "m".into(),
            range_end: "n".into(),
            ..Range::default()
        }));
        let compare = Compare {
            result: 2,
            target: 0,
            key: key(first),
            number: 4,
            ..Compare::default()
        };
        let everything = step(TxnStep::DeleteRange(DeleteRange {
            key: "m".into(),
            range_end: "n".into(),
            prev_kv: false,
        }));
        let success = vec![
            range.clone(),
            put(first),
            put(first + 1),
            delete,
            range.clone(),
        ];
        Operation::Txn(Txn {
            compares: vec![compare],
            success,
            failure: vec![everything, range],
        })
    }

    /// Sixty keys with large values in one transaction, or the removal of all such keys.
    fn bulk(&mut self) -> Operation {
        if self.rng.chance(100) {
            let everything = DeleteRange {
                key: "b".into(),
                range_end: "c".into(),
                prev_kv: self.rng.chance(300),
            };
            return Operation::DeleteRange(everything);
        }
        let first = self.rng.below(3_000);
        let value = Bytes::from(vec![b'x'; self.rng.below(600) as usize]);
        let put = |n: u64| Put {
            key: Bytes::from(format!("b{n:05}")),
            value: value.clone(),
            ..Put::default()
        };
        let success = (first..first + 60)
            .map(|n| step(TxnStep::Put(put(n))))
            .collect();
        let compare = Compare {
            result: 3,
            target: 0,
            key: "never".into(),
            number: 1,
            ..Compare::default()
        };
        Operation::Txn(Txn {
            compares: vec![compare],
            success,
            failure: Vec::new(),
        })
    }
}

fn step(step: TxnStep) -> TxnOperation {
    TxnOperation { step: Some(step) }
}
