//! What the writers ask: changes and reads, drawn from the seed.

use super::*;

impl Clients {
    pub(super) fn key(&mut self, prefix: char) -> Bytes {
        Bytes::from(format!("{prefix}{}", self.rng.below(self.load.keys)))
    }

    pub(super) fn write(&mut self, client: usize) {
        if self.closing {
            return;
        }
        let request = self.number();
        let body = match self.rng.below(100) {
            0..35 => self.put(request),
            35..45 => self.swap(request),
            45..52 => {
                let delete = DeleteRange {
                    key: self.key('k'),
                    prev_kv: self.rng.chance(300),
                    ..DeleteRange::default()
                };
                Operation::DeleteRange(delete)
            }
            52..57 => self.transaction(request),
            59..67 if self.load.bulk => self.bulk(),
            57..59 => {
                let revision = (self.revision - self.rng.below(60) as i64).max(1);
                Operation::Compact(Compact { revision })
            }
            _ => {
                let (consistency, query) = self.query(client);
                return self.ask(client, request, Request::Read(consistency, query));
            }
        };
        self.propose(client, request, body);
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

    fn query(&mut self, client: usize) -> (Consistency, Query) {
        let consistency = match (self.rng.below(10), self.clients[client].stamp) {
            (0..2, _) => Consistency::Local,
            (2..4, Some(stamp)) => Consistency::AtLeast(stamp),
            (4, _) => {
                Consistency::Bounded(std::time::Duration::from_millis(self.rng.between(0, 1_000)))
            }
            _ => Consistency::Linearizable,
        };
        let all = |key: &'static str, end: &'static str| Range {
            key: key.into(),
            range_end: end.into(),
            ..Range::default()
        };
        let query = match self.rng.below(20) {
            0 => Query::Range(all("a", "z")),
            1 => Query::Range(Range {
                limit: 1 + self.rng.below(5) as i64,
                ..all("k", "m")
            }),
            2 => Query::Range(Range {
                keys_only: true,
                ..all("k", "l")
            }),
            3 => Query::Range(Range {
                count_only: true,
                ..all("a", "z")
            }),
            4..7 => {
                let revision = (self.revision + 3 - self.rng.below(80) as i64).max(1);
                Query::Range(Range {
                    revision,
                    ..all("a", "z")
                })
            }
            7 => Query::HashKv { revision: 0 },
            8 => match self.rng.below(3) {
                0 => Query::Leases,
                _ => Query::LeaseTimeToLive {
                    id: self.some_lease(),
                    keys: true,
                },
            },
            _ => Query::Range(Range {
                key: self.key('k'),
                ..Range::default()
            }),
        };
        (consistency, query)
    }

    fn some_lease(&mut self) -> i64 {
        let lease = |client: &Client| {
            if let Kind::Lessee(lessee) = &client.kind {
                Some(lessee.lease)
            } else {
                None
            }
        };
        let leases: Vec<i64> = self.clients.iter().filter_map(lease).collect();
        if leases.is_empty() {
            1
        } else {
            *self.rng.pick(&leases)
        }
    }
}

fn step(step: TxnStep) -> TxnOperation {
    TxnOperation { step: Some(step) }
}
