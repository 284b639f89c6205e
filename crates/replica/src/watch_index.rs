//! Which watches does a key concern? Single keys in an ordered map, ranges in a tree that knows the furthest end below each node, so that ranges
//! which do not hold the key cost nothing. Watches with the same range share one entry.
//!
//! The tree is a treap whose priorities are a fixed mix of a counter: the same calls build the same tree on every run.

use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// Number of a watch in the hub's table.
pub(crate) type Slot = u32;

/// The keys of a watch: one key, `key..end`, or all from `key` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Keys {
    start: Bytes,
    end: End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// The single key.
    Single,
    /// Up to this key, exclusive.
    Before(Bytes),
    /// No end.
    Open,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Single => unreachable!("a single key is not in the tree"),
            End::Before(end) => key < &end[..] || mutated!(RangeEndIncluded) && key == &end[..],
            End::Open => true,
        }
    }
}

impl PartialOrd for End {
    fn partial_cmp(&self, other: &End) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for End {
    fn cmp(&self, other: &End) -> Ordering {
        fn rank(end: &End) -> (u8, &[u8]) {
            match end {
                End::Single => (0, &[]),
                End::Before(end) => (1, end),
                End::Open => (2, &[]),
            }
        }
        rank(self).cmp(&rank(other))
    }
}

impl Keys {
    /// From etcd's pair: an empty end is the single key, one zero byte is "from the key on". `None` if the range is empty. The bytes are copied, so
    /// that a watch does not hold the network buffer it came in.
    pub(crate) fn new(key: &[u8], range_end: &[u8]) -> Option<Keys> {
        let start = if key.is_empty() {
            Bytes::from_static(b"\0")
        } else {
            Bytes::copy_from_slice(key)
        };
        let end = match range_end {
            [] => End::Single,
            [0] => End::Open,
            end if end <= &start[..] => return None,
            end => End::Before(Bytes::copy_from_slice(end)),
        };
        Some(Keys { start, end })
    }
}

/// The watches by key.
#[derive(Default)]
pub(crate) struct WatchIndex {
    single: BTreeMap<Bytes, BTreeSet<Slot>>,
    ranges: RangeTree,
    len: usize,
}

impl WatchIndex {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, keys: &Keys, slot: Slot) {
        let added = match keys.end {
            End::Single => self
                .single
                .entry(keys.start.clone())
                .or_default()
                .insert(slot),
            _ => self.ranges.insert(keys, slot),
        };
        assert!(added, "watch {slot} is in the index already");
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, keys: &Keys, slot: Slot) {
        let removed = match keys.end {
            End::Single => match self.single.get_mut(&keys.start) {
                Some(slots) => {
                    let removed = slots.remove(&slot);
                    if slots.is_empty() {
                        self.single.remove(&keys.start);
                    }
                    removed
                }
                None => false,
            },
            _ => self.ranges.remove(keys, slot),
        };
        assert!(removed, "watch {slot} is not in the index");
        self.len -= 1;
    }

    /// Calls `visit` for every watch that `key` concerns, each once.
    pub(crate) fn visit(&self, key: &[u8], mut visit: impl FnMut(Slot)) {
        if let Some(slots) = self.single.get(key) {
            slots.iter().for_each(|&slot| visit(slot));
        }
        self.ranges.visit(key, &mut visit);
    }

    /// All watches, in ascending order.
    pub(crate) fn slots(&self) -> Vec<Slot> {
        let mut slots: Vec<Slot> = self.single.values().flatten().copied().collect();
        slots.extend(self.ranges.nodes.iter().flat_map(|node| &node.slots));
        slots.sort_unstable();
        slots
    }
}

const NONE: u32 = u32::MAX;

/// A treap over (start, end) with the furthest end of each subtree.
struct RangeTree {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    made: u64,
}

impl Default for RangeTree {
    fn default() -> RangeTree {
        RangeTree {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            made: 0,
        }
    }
}

struct Node {
    keys: Keys,
    slots: BTreeSet<Slot>,
    furthest: End,
    priority: u64,
    left: u32,
    right: u32,
}

fn order(a: &Keys, b: &Keys) -> Ordering {
    a.start.cmp(&b.start).then_with(|| a.end.cmp(&b.end))
}

/// The finalizer of splitmix64: spreads a counter into priorities.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl RangeTree {
    fn node(&self, at: u32) -> &Node {
        &self.nodes[at as usize]
    }

    fn find(&self, keys: &Keys) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = self.node(at);
            match order(keys, &node.keys) {
                Ordering::Equal => return Some(at),
                Ordering::Less => at = node.left,
                Ordering::Greater => at = node.right,
            }
        }
        None
    }

    fn insert(&mut self, keys: &Keys, slot: Slot) -> bool {
        if let Some(at) = self.find(keys) {
            return self.nodes[at as usize].slots.insert(slot);
        }
        self.made += 1;
        let node = Node {
            keys: keys.clone(),
            slots: BTreeSet::from([slot]),
            furthest: keys.end.clone(),
            priority: mix(self.made),
            left: NONE,
            right: NONE,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let (left, right) = self.split(self.root, keys);
        let left = self.merge(left, at);
        self.root = self.merge(left, right);
        true
    }

    fn remove(&mut self, keys: &Keys, slot: Slot) -> bool {
        let Some(at) = self.find(keys) else {
            return false;
        };
        if !self.nodes[at as usize].slots.remove(&slot) {
            return false;
        }
        if self.nodes[at as usize].slots.is_empty() {
            self.root = self.unlink(self.root, at);
            // The slot in the table stays until it is used again, without keeping the keys' bytes.
            self.nodes[at as usize].keys = Keys {
                start: Bytes::new(),
                end: End::Open,
            };
            self.free.push(at);
        }
        true
    }

    /// Takes node `gone` out of the subtree at `at`; gives the new root of the subtree.
    fn unlink(&mut self, at: u32, gone: u32) -> u32 {
        assert!(at != NONE, "range {gone} is not in the tree");
        if at == gone {
            return self.merge(self.node(at).left, self.node(at).right);
        }
        if order(&self.node(gone).keys, &self.node(at).keys) == Ordering::Less {
            let left = self.unlink(self.node(at).left, gone);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.unlink(self.node(at).right, gone);
            self.nodes[at as usize].right = right;
        }
        self.update(at);
        at
    }

    /// Splits a subtree into what orders before `keys` and the rest.
    fn split(&mut self, at: u32, keys: &Keys) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        if order(&self.node(at).keys, keys) == Ordering::Less {
            let (left, right) = self.split(self.node(at).right, keys);
            self.nodes[at as usize].right = left;
            self.update(at);
            (at, right)
        } else {
            let (left, right) = self.split(self.node(at).left, keys);
            self.nodes[at as usize].left = right;
            self.update(at);
            (left, at)
        }
    }

    /// Joins two subtrees, all of `left` before all of `right`.
    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        if self.node(left).priority > self.node(right).priority {
            let joined = self.merge(self.node(left).right, right);
            self.nodes[left as usize].right = joined;
            self.update(left);
            left
        } else {
            let joined = self.merge(left, self.node(right).left);
            self.nodes[right as usize].left = joined;
            self.update(right);
            right
        }
    }

    fn update(&mut self, at: u32) {
        let node = self.node(at);
        let mut furthest = &node.keys.end;
        for child in [node.left, node.right] {
            if child != NONE {
                furthest = furthest.max(&self.node(child).furthest);
            }
        }
        let furthest = furthest.clone();
        self.nodes[at as usize].furthest = furthest;
    }

    fn visit(&self, key: &[u8], visit: &mut impl FnMut(Slot)) {
        self.visit_below(self.root, key, visit);
    }

    fn visit_below(&self, mut at: u32, key: &[u8], visit: &mut impl FnMut(Slot)) {
        while at != NONE {
            let node = self.node(at);
            if !node.furthest.is_after(key) {
                return;
            }
            self.visit_below(node.left, key, visit);
            if key < &node.keys.start[..] {
                return;
            }
            if node.keys.end.is_after(key) {
                node.slots.iter().for_each(|&slot| visit(slot));
            }
            at = node.right;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(index: &WatchIndex, key: &[u8]) -> Vec<Slot> {
        let mut slots = Vec::new();
        index.visit(key, |slot| slots.push(slot));
        slots.sort_unstable();
        slots
    }

    fn holds(key: &[u8], start: &[u8], end: &[u8]) -> bool {
        match end {
            [] => key == start,
            [0] => key >= start,
            end => key >= start && key < end,
        }
    }

    #[test]
    fn empty_and_turned_ranges_are_refused() {
        assert_eq!(Keys::new(b"b", b"b"), None);
        assert_eq!(Keys::new(b"b", b"a"), None);
        assert!(Keys::new(b"b", b"\0").is_some());
    }

    #[test]
    fn an_empty_key_is_the_first_one() {
        let mut index = WatchIndex::default();
        index.insert(&Keys::new(b"", b"\0").unwrap(), 7);
        assert_eq!(hits(&index, b"\0"), vec![7]);
        assert_eq!(hits(&index, b"zz"), vec![7]);
    }

    /// W7 at the level of the index: it gives what a scan over all watches gives, through insertions and removals.
    #[test]
    fn index_equals_a_scan() {
        let mut seed = 1u64;
        let mut random = move |below: u64| {
            seed = mix(seed);
            seed % below
        };
        let mut index = WatchIndex::default();
        let mut all: BTreeMap<Slot, (Vec<u8>, Vec<u8>)> = BTreeMap::new();
        for round in 0..4000u32 {
            if random(3) > 0 || all.is_empty() {
                let start = vec![b'a' + random(20) as u8, b'a' + random(20) as u8];
                let end = match random(4) {
                    0 => vec![],
                    1 => vec![0],
                    _ => vec![b'a' + random(21) as u8, b'a' + random(20) as u8],
                };
                if let Some(keys) = Keys::new(&start, &end) {
                    index.insert(&keys, round);
                    all.insert(round, (start, end));
                }
            } else {
                let nth = random(all.len() as u64) as usize;
                let slot = *all.keys().nth(nth).unwrap();
                let (start, end) = all.remove(&slot).unwrap();
                index.remove(&Keys::new(&start, &end).unwrap(), slot);
            }
            let key = vec![b'a' + random(21) as u8, b'a' + random(20) as u8];
            let expected: Vec<Slot> = all
                .iter()
                .filter(|(_, (start, end))| holds(&key, start, end))
                .map(|(&slot, _)| slot)
                .collect();
            assert_eq!(hits(&index, &key), expected, "round {round}, key {key:?}");
            assert_eq!(index.len(), all.len());
        }
        assert_eq!(index.slots(), all.keys().copied().collect::<Vec<_>>());
    }

    #[test]
    fn ranges_without_the_key_are_not_visited() {
        let mut tree = RangeTree::default();
        for n in 0..10_000u32 {
            let start = format!("k{n:05}a");
            let end = format!("k{n:05}b");
            tree.insert(&Keys::new(start.as_bytes(), end.as_bytes()).unwrap(), n);
        }
        fn visited(tree: &RangeTree, at: u32, key: &[u8]) -> usize {
            if at == NONE || !tree.node(at).furthest.is_after(key) {
                return 1;
            }
            let left = visited(tree, tree.node(at).left, key);
            let right = if key < &tree.node(at).keys.start[..] {
                0
            } else {
                visited(tree, tree.node(at).right, key)
            };
            1 + left + right
        }
        for key in ["k00000a", "k05000c", "k09999azz", "a", "z"] {
            let count = visited(&tree, tree.root, key.as_bytes());
            assert!(count < 100, "{count} of 10000 nodes visited for {key}");
        }
    }
}
