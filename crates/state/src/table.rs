//! Rows in the order of their keys, copied on write in shards: a reader pins all of them by copying the list of shards.
//! The sum of the rows' hashes is kept beside them, so that the hash of a state costs no walk; and each row's own, so that it is found once.

use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::Arc;

/// Rows in one shard: copying one takes about a microsecond.
const SHARD_ROWS_MAX: usize = 512;

/// What a table holds.
pub(crate) trait Row: Clone {
    /// Orders rows; no two of a table have the same.
    type Key: Ord + ?Sized;

    fn key(&self) -> &Self::Key;

    /// Of all that must be equal on all members.
    fn hash(&self) -> u64;
}

/// Where a reader of a pinned table stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    shard: usize,
    at: usize,
}

/// A row and its hash.
#[derive(Clone)]
struct Hashed<R> {
    row: R,
    hash: u64,
}

impl<R: Row> Hashed<R> {
    fn new(row: R) -> Hashed<R> {
        let hash = row.hash();
        Hashed { row, hash }
    }
}

/// See the module. Cloning it pins it.
pub(crate) struct Table<R> {
    shards: Vec<Arc<Vec<Hashed<R>>>>,
    length: usize,
    sum: u64,
}

impl<R> Clone for Table<R> {
    fn clone(&self) -> Table<R> {
        Table {
            shards: self.shards.clone(),
            ..*self
        }
    }
}

impl<R> Default for Table<R> {
    fn default() -> Table<R> {
        Table {
            shards: Vec::new(),
            length: 0,
            sum: 0,
        }
    }
}

fn place<R: Row>(shard: &[Hashed<R>], key: &R::Key) -> Result<usize, usize> {
    shard.binary_search_by(|hashed| hashed.row.key().cmp(key))
}

impl<R: Row> Table<R> {
    /// The shard where `key` is or would be.
    fn shard(&self, key: &R::Key) -> Option<usize> {
        let after = self
            .shards
            .partition_point(|shard| shard[0].row.key().cmp(key) != Ordering::Greater);
        (!self.shards.is_empty()).then_some(after.saturating_sub(1))
    }

    pub fn get(&self, key: &R::Key) -> Option<&R> {
        let shard = &self.shards[self.shard(key)?];
        place(shard, key).ok().map(|at| &shard[at].row)
    }

    pub fn len(&self) -> usize {
        self.length
    }

    /// Sum of the hashes of all rows.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// Rows from a key on, ascending.
    pub fn range<'a>(&'a self, lower: Bound<&R::Key>) -> impl Iterator<Item = &'a R> + use<'a, R> {
        let (shard, at) = match lower {
            Bound::Unbounded => (0, 0),
            Bound::Included(key) | Bound::Excluded(key) => {
                let shard = self.shard(key).unwrap_or(0);
                let rows = self.shards.get(shard).map_or(&[][..], |shard| shard);
                let at = rows.partition_point(|hashed| match hashed.row.key().cmp(key) {
                    Ordering::Less => true,
                    Ordering::Equal => matches!(lower, Bound::Excluded(_)),
                    Ordering::Greater => false,
                });
                (shard, at)
            }
        };
        self.shards[shard.min(self.shards.len())..]
            .iter()
            .flat_map(|shard| shard.iter())
            .skip(at)
            .map(|hashed| &hashed.row)
    }

    /// The row at a place, which goes on to the next. Only in a table that is not changed meanwhile.
    pub fn next(&self, place: &mut Place) -> Option<&R> {
        let rows = self.shards.get(place.shard)?;
        let row = &rows[place.at].row;
        place.at += 1;
        if place.at == rows.len() {
            *place = Place {
                shard: place.shard + 1,
                at: 0,
            };
        }
        Some(row)
    }

    /// Adds a row, or replaces the one with its key; gives that.
    pub fn set(&mut self, row: R) -> Option<R> {
        let new = Hashed::new(row);
        self.sum = self.sum.wrapping_add(new.hash);
        let Some(at) = self.shard(new.row.key()) else {
            self.shards.push(Arc::new(vec![new]));
            self.length = 1;
            return None;
        };
        let shard = Arc::make_mut(&mut self.shards[at]);
        match place(shard, new.row.key()) {
            Ok(found) => {
                let old = std::mem::replace(&mut shard[found], new);
                self.sum = self.sum.wrapping_sub(old.hash);
                Some(old.row)
            }
            Err(place) => {
                shard.insert(place, new);
                self.length += 1;
                if shard.len() > SHARD_ROWS_MAX {
                    let half = shard.split_off(SHARD_ROWS_MAX / 2);
                    self.shards.insert(at + 1, Arc::new(half));
                }
                None
            }
        }
    }

    /// Changes a row where it is, but for its key; gives what `change` gives, `None` if there is no such row.
    pub fn update<T>(&mut self, key: &R::Key, change: impl FnOnce(&mut R) -> T) -> Option<T> {
        let at = self.shard(key)?;
        let found = place(&self.shards[at], key).ok()?;
        let hashed = &mut Arc::make_mut(&mut self.shards[at])[found];
        let changed = change(&mut hashed.row);
        let hash = hashed.row.hash();
        self.sum = self.sum.wrapping_sub(hashed.hash).wrapping_add(hash);
        hashed.hash = hash;
        Some(changed)
    }

    /// Takes a row out.
    pub fn remove(&mut self, key: &R::Key) -> Option<R> {
        let at = self.shard(key)?;
        let found = place(&self.shards[at], key).ok()?;
        let shard = Arc::make_mut(&mut self.shards[at]);
        let old = shard.remove(found);
        self.length -= 1;
        self.sum = self.sum.wrapping_sub(old.hash);
        if shard.is_empty() {
            self.shards.remove(at);
        }
        Some(old.row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug, PartialEq)]
    struct Pair(u16, u8);

    impl Row for Pair {
        type Key = u16;

        fn key(&self) -> &u16 {
            &self.0
        }

        fn hash(&self) -> u64 {
            u64::from(self.0) << 8 | u64::from(self.1)
        }
    }

    proptest! {
        /// A table is a map; a pinned one stays as it was.
        #[test]
        fn table_is_a_map(changes in prop::collection::vec((0u16..2000, any::<u8>(), 0u8..10), 0..4000), pin_at in 0usize..4000, from in 0u16..2100) {
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            let mut pinned = None;
            for (step, (key, value, choice)) in changes.into_iter().enumerate() {
                if step == pin_at {
                    pinned = Some((table.clone(), map.clone()));
                }
                if choice < 5 {
                    prop_assert_eq!(table.set(Pair(key, value)).map(|row| row.1), map.insert(key, value));
                } else if choice < 7 {
                    let before = table.update(&key, |row| std::mem::replace(&mut row.1, value));
                    prop_assert_eq!(before, map.get_mut(&key).map(|old| std::mem::replace(old, value)));
                } else {
                    prop_assert_eq!(table.remove(&key).map(|row| row.1), map.remove(&key));
                }
                prop_assert_eq!(table.get(&key).map(|row| row.1), map.get(&key).copied());
            }
            for (table, map) in pinned.into_iter().chain([(table, map)]) {
                prop_assert_eq!(table.len(), map.len());
                let mut place = Place::default();
                let walked: Vec<u16> = std::iter::from_fn(|| table.next(&mut place).map(|row| row.0)).collect();
                prop_assert_eq!(walked, map.keys().copied().collect::<Vec<_>>());
                let rows: Vec<Pair> = map.iter().map(|(&key, &value)| Pair(key, value)).collect();
                prop_assert_eq!(table.sum(), rows.iter().map(Row::hash).fold(0, u64::wrapping_add));
                for bound in [Bound::Unbounded, Bound::Included(from), Bound::Excluded(from)] {
                    let expected: Vec<Pair> = map.range((bound, Bound::Unbounded)).map(|(&key, &value)| Pair(key, value)).collect();
                    let found: Vec<Pair> = table.range(bound.as_ref()).cloned().collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
