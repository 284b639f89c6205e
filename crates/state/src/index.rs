//! The key index: every key that has a record, in order, with the place of its newest one.
//!
//! A B-tree that holds no keys: they are in the log already. A node keeps the bytes that all its keys begin with, and of each key the four
//! bytes that follow ("head"), so that a search compares numbers lying side by side and reads a key from the log only where heads are equal.
//! This takes about 24 bytes per key, where a map of owned keys takes 90.
//!
//! Beside each child an inner node keeps how many live keys lie below it and how long they are, so that a range is weighed without a walk.

mod leaf;

use crate::revision_log::{Position, RevisionLog};
use leaf::Leaf;
use std::cmp::Ordering;
use std::ops::Bound;

/// Keys in a leaf at most.
const LEAF_KEYS: usize = 64;
/// Children of an inner node at most.
const CHILDREN: usize = 64;
/// Nodes grow by so many entries: most are far from full and stay so.
const GROWTH: usize = 8;

/// The newest record of a key: its place, and whether it is a removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u64);

const DELETED: u64 = 1 << 63;

impl Slot {
    pub fn new(position: Position, deleted: bool) -> Slot {
        Slot(position.0 | if deleted { DELETED } else { 0 })
    }

    pub fn position(self) -> Position {
        Position(self.0 & !DELETED)
    }

    pub fn deleted(self) -> bool {
        self.0 & DELETED != 0
    }
}

/// Live keys below a node, or in a range. Sums wrap, so that a difference is one of these as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    pub keys: u64,
    /// Bytes of the keys themselves.
    pub bytes: u64,
}

impl Weight {
    fn of(key: &[u8]) -> Weight {
        Weight {
            keys: 1,
            bytes: key.len() as u64,
        }
    }

    fn add(&mut self, other: Weight) {
        self.keys = self.keys.wrapping_add(other.keys);
        self.bytes = self.bytes.wrapping_add(other.bytes);
    }

    fn subtract(&mut self, other: Weight) {
        self.keys = self.keys.wrapping_sub(other.keys);
        self.bytes = self.bytes.wrapping_sub(other.bytes);
    }
}

/// See the module. Methods take the log, where the keys are.
pub(crate) struct Index {
    root: Node,
}

enum Node {
    Leaf(Box<Leaf>),
    Inner(Box<Inner>),
}

/// `separators[i]` is above every key of `children[i]`, and not above any of `children[i + 1]`.
struct Inner {
    prefix: Box<[u8]>,
    heads: Vec<u32>,
    separators: Vec<Box<[u8]>>,
    children: Vec<Node>,
    /// Of each child.
    weights: Vec<Weight>,
}

/// What a full node gave away.
struct Split {
    separator: Box<[u8]>,
    /// The node to its right.
    right: Node,
    weight: Weight,
}

/// What an insertion did to a node.
struct Change {
    /// Weight gained by the node and what it gave away together.
    gained: Weight,
    split: Option<Split>,
}

impl Index {
    pub fn new() -> Index {
        Index {
            root: Node::Leaf(Leaf::new()),
        }
    }

    /// The newest record of a key.
    pub fn get(&self, log: &RevisionLog, key: &[u8]) -> Option<Slot> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.child(key)],
                Node::Leaf(leaf) => return leaf.find(log, key).ok().map(|at| leaf.slots[at]),
            }
        }
    }

    /// Gives the key the slot that `make` answers to the present one. The record of a new slot must hold this key.
    pub fn upsert(
        &mut self,
        log: &mut RevisionLog,
        key: &[u8],
        make: impl FnOnce(&mut RevisionLog, Option<Slot>) -> Slot,
    ) {
        if let Some(split) = self.root.upsert(log, key, make).split {
            let left = std::mem::replace(&mut self.root, Node::Leaf(Leaf::new()));
            let weights = vec![left.weight(log), split.weight];
            self.root = Node::Inner(Box::new(Inner::new(
                vec![split.separator],
                vec![left, split.right],
                weights,
            )));
        }
    }

    /// Forgets a key.
    pub fn remove(&mut self, log: &RevisionLog, key: &[u8]) {
        self.root.remove(log, key);
        while let Node::Inner(inner) = &mut self.root
            && inner.children.len() <= 1
        {
            self.root = inner
                .children
                .pop()
                .unwrap_or_else(|| Node::Leaf(Leaf::new()));
        }
    }

    /// Visits slots in key order until `visit` says stop.
    pub fn walk(
        &self,
        log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(Slot) -> bool,
    ) {
        self.root.walk(log, from, to, &mut visit);
    }

    /// Visits slots against key order until `visit` says stop.
    pub fn walk_back(
        &self,
        log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(Slot) -> bool,
    ) {
        self.root.walk_back(log, from, to, &mut visit);
    }

    /// The live keys between two bounds.
    pub fn weigh(&self, log: &RevisionLog, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Weight {
        self.root.weigh(log, from, to)
    }

    /// Visits slots in key order and lets `visit` replace them by later records of the same keys, until it says stop. Passes over nodes
    /// without live keys.
    pub fn walk_mut(
        &mut self,
        log: &mut RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        mut visit: impl FnMut(&mut RevisionLog, &mut Slot) -> bool,
    ) {
        self.root.walk_mut(log, from, to, &mut visit);
    }
}

/// The four bytes of a key after its first `skip`, as a number that sorts like them. A shorter key is filled with zeros, so keys with
/// equal heads may differ, but keys with different heads are in the order of their heads.
fn head(key: &[u8], skip: usize) -> u32 {
    let rest = &key[skip..];
    match rest.first_chunk::<4>() {
        Some(bytes) => u32::from_be_bytes(*bytes),
        None => {
            let mut bytes = [0; 4];
            bytes[..rest.len()].copy_from_slice(rest);
            u32::from_be_bytes(bytes)
        }
    }
}

/// Inserts into a node's entries, and keeps them from taking room for twice as many.
fn insert<T>(entries: &mut Vec<T>, at: usize, entry: T) {
    if entries.len() == entries.capacity() {
        entries.reserve_exact(GROWTH);
    }
    entries.insert(at, entry);
}

/// Splits a node's entries, and gives back the room of those that go.
fn split_off<T>(entries: &mut Vec<T>, at: usize) -> Vec<T> {
    let right = entries.split_off(at);
    entries.shrink_to(at.next_multiple_of(GROWTH));
    right
}

/// Number of bytes that two keys have in common at their front.
fn shared(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Finds `key` among entries that begin with `prefix`: where it is, or where it would be. `compare` tells how an entry compares with it.
fn search(
    prefix: &[u8],
    heads: &[u32],
    key: &[u8],
    compare: impl Fn(usize) -> Ordering,
) -> Result<usize, usize> {
    let both = prefix.len().min(key.len());
    match key[..both].cmp(&prefix[..both]) {
        Ordering::Less => return Err(0),
        Ordering::Greater => return Err(heads.len()),
        Ordering::Equal if key.len() < prefix.len() => return Err(0),
        Ordering::Equal => {}
    }
    let head = head(key, prefix.len());
    let mut low = heads.partition_point(|&entry| entry < head);
    let mut high = low
        + heads[low..]
            .iter()
            .take_while(|&&entry| entry == head)
            .count();
    while low < high {
        let middle = low + (high - low) / 2;
        match compare(middle) {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok(middle),
            Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// A short key that is above `left` and not above `right`.
fn separator(left: &[u8], right: &[u8]) -> Box<[u8]> {
    let length = shared(left, right) + 1;
    assert!(
        left < right && length <= right.len(),
        "keys out of order: {left:?} before {right:?}"
    );
    right[..length].into()
}

impl Inner {
    fn new(separators: Vec<Box<[u8]>>, children: Vec<Node>, weights: Vec<Weight>) -> Inner {
        let mut inner = Inner {
            prefix: Box::default(),
            heads: Vec::new(),
            separators,
            children,
            weights,
        };
        inner.rebuild();
        inner
    }

    /// Finds the common front and the heads anew.
    fn rebuild(&mut self) {
        let ends = self.separators.first().zip(self.separators.last());
        self.prefix = ends.map_or(Box::default(), |(first, last)| {
            first[..shared(first, last)].into()
        });
        self.heads = self
            .separators
            .iter()
            .map(|separator| head(separator, self.prefix.len()))
            .collect();
    }

    /// The child where a key is or would be.
    fn child(&self, key: &[u8]) -> usize {
        search(&self.prefix, &self.heads, key, |at| {
            self.separators[at][..].cmp(key)
        })
        .map_or_else(|at| at, |at| at + 1)
    }

    /// First and last child between two bounds.
    fn places(&self, from: Bound<&[u8]>, to: Bound<&[u8]>) -> (usize, usize) {
        let place = |bound, open| match bound {
            Bound::Included(key) | Bound::Excluded(key) => self.child(key),
            Bound::Unbounded => open,
        };
        (place(from, 0), place(to, self.children.len() - 1))
    }

    /// Sum over its children.
    fn weight(&self) -> Weight {
        let mut sum = Weight::default();
        self.weights.iter().for_each(|&weight| sum.add(weight));
        sum
    }

    /// Takes what a child gave away in.
    fn insert(&mut self, at: usize, split: Split) -> Option<Split> {
        let Split {
            separator,
            right,
            weight,
        } = split;
        self.weights[at].subtract(weight);
        insert(&mut self.weights, at + 1, weight);
        let known_front = separator.starts_with(&self.prefix) && !self.separators.is_empty();
        let head = if known_front {
            head(&separator, self.prefix.len())
        } else {
            0
        };
        insert(&mut self.heads, at, head);
        insert(&mut self.separators, at, separator);
        insert(&mut self.children, at + 1, right);
        if !known_front {
            self.rebuild();
        }
        if self.children.len() <= CHILDREN {
            return None;
        }
        // Keys that come in order leave full nodes behind.
        let middle = if at + 1 == self.separators.len() {
            CHILDREN - 1
        } else {
            CHILDREN / 2
        };
        let right = Inner::new(
            split_off(&mut self.separators, middle),
            split_off(&mut self.children, middle),
            split_off(&mut self.weights, middle),
        );
        let separator = self.separators.pop().expect("more than one separator");
        self.rebuild();
        Some(Split {
            separator,
            weight: right.weight(),
            right: Node::Inner(Box::new(right)),
        })
    }

    /// Removes a child that became empty, or merges it with a neighbour if it became small.
    fn shrink(&mut self, log: &RevisionLog, at: usize) {
        if self.children[at].is_empty() {
            self.children.remove(at);
            self.weights.remove(at);
            if !self.separators.is_empty() {
                self.separators.remove(at.saturating_sub(1));
            }
            self.rebuild();
        } else if self.children[at].is_small() && self.children.len() > 1 {
            let left = if at + 1 < self.children.len() {
                at
            } else {
                at - 1
            };
            let (before, after) = self.children.split_at_mut(left + 1);
            let separator = &self.separators[left];
            if before[left].merge(log, separator, &mut after[0]) {
                self.children.remove(left + 1);
                self.separators.remove(left);
                let weight = self.weights.remove(left + 1);
                self.weights[left].add(weight);
                self.rebuild();
            }
        }
    }
}

impl Node {
    fn upsert(
        &mut self,
        log: &mut RevisionLog,
        key: &[u8],
        make: impl FnOnce(&mut RevisionLog, Option<Slot>) -> Slot,
    ) -> Change {
        match self {
            Node::Leaf(leaf) => leaf.upsert(log, key, make),
            Node::Inner(inner) => {
                let at = inner.child(key);
                let Change { gained, split } = inner.children[at].upsert(log, key, make);
                inner.weights[at].add(gained);
                Change {
                    gained,
                    split: split.and_then(|split| inner.insert(at, split)),
                }
            }
        }
    }

    /// Gives the weight that went with the key.
    fn remove(&mut self, log: &RevisionLog, key: &[u8]) -> Weight {
        match self {
            Node::Leaf(leaf) => leaf.remove(log, key),
            Node::Inner(inner) => {
                let at = inner.child(key);
                let lost = inner.children[at].remove(log, key);
                inner.weights[at].subtract(lost);
                inner.shrink(log, at);
                lost
            }
        }
    }

    fn weight(&self, log: &RevisionLog) -> Weight {
        match self {
            Node::Leaf(leaf) => leaf.weigh(log, 0..leaf.slots.len()),
            Node::Inner(inner) => inner.weight(),
        }
    }

    fn weigh(&self, log: &RevisionLog, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Weight {
        match self {
            Node::Leaf(leaf) => {
                let (low, high) = leaf.places(log, from, to);
                leaf.weigh(log, low..high)
            }
            Node::Inner(inner) => {
                let (low, high) = inner.places(from, to);
                let mut sum = Weight::default();
                for at in low..=high {
                    let (from, to) = inside(at, low, high, from, to);
                    sum.add(match (from, to) {
                        (Bound::Unbounded, Bound::Unbounded) => inner.weights[at],
                        _ => inner.children[at].weigh(log, from, to),
                    });
                }
                sum
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.slots.len() == 0,
            Node::Inner(inner) => inner.children.is_empty(),
        }
    }

    fn is_small(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.slots.len() < LEAF_KEYS / 4,
            Node::Inner(inner) => inner.children.len() < CHILDREN / 4,
        }
    }

    /// Takes over the node to the right, unless both together are too full to stay so for long.
    fn merge(&mut self, log: &RevisionLog, separator: &[u8], right: &mut Node) -> bool {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right))
                if left.slots.len() + right.slots.len() <= LEAF_KEYS * 3 / 4 =>
            {
                left.merge(log, right)
            }
            (Node::Inner(left), Node::Inner(right))
                if left.children.len() + right.children.len() <= CHILDREN * 3 / 4 =>
            {
                left.separators.push(separator.into());
                left.separators.append(&mut right.separators);
                left.children.append(&mut right.children);
                left.weights.append(&mut right.weights);
                left.rebuild();
            }
            _ => return false,
        }
        true
    }

    fn walk(
        &self,
        log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut impl FnMut(Slot) -> bool,
    ) -> bool {
        match self {
            Node::Leaf(leaf) => {
                let (low, high) = leaf.places(log, from, to);
                leaf.slots[low..high].iter().all(|&slot| visit(slot))
            }
            Node::Inner(inner) => {
                let (low, high) = inner.places(from, to);
                (low..=high).all(|at| {
                    let (from, to) = inside(at, low, high, from, to);
                    inner.children[at].walk(log, from, to, visit)
                })
            }
        }
    }

    fn walk_back(
        &self,
        log: &RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut impl FnMut(Slot) -> bool,
    ) -> bool {
        match self {
            Node::Leaf(leaf) => {
                let (low, high) = leaf.places(log, from, to);
                leaf.slots[low..high].iter().rev().all(|&slot| visit(slot))
            }
            Node::Inner(inner) => {
                let (low, high) = inner.places(from, to);
                (low..=high).rev().all(|at| {
                    let (from, to) = inside(at, low, high, from, to);
                    inner.children[at].walk_back(log, from, to, visit)
                })
            }
        }
    }

    /// Gives the weight lost, and whether to go on.
    fn walk_mut(
        &mut self,
        log: &mut RevisionLog,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        visit: &mut impl FnMut(&mut RevisionLog, &mut Slot) -> bool,
    ) -> (Weight, bool) {
        let (mut lost, mut more) = (Weight::default(), true);
        match self {
            Node::Leaf(leaf) => {
                let (low, high) = leaf.places(log, from, to);
                for slot in &mut leaf.slots[low..high] {
                    let was_live = !slot.deleted();
                    more = visit(log, slot);
                    if was_live && slot.deleted() {
                        lost.add(Weight::of(log.key(slot.position())));
                    }
                    if !more {
                        break;
                    }
                }
            }
            Node::Inner(inner) => {
                let (low, high) = inner.places(from, to);
                for at in low..=high {
                    if inner.weights[at].keys == 0 {
                        continue;
                    }
                    let (from, to) = inside(at, low, high, from, to);
                    let below;
                    (below, more) = inner.children[at].walk_mut(log, from, to, visit);
                    inner.weights[at].subtract(below);
                    lost.add(below);
                    if !more {
                        break;
                    }
                }
            }
        }
        (lost, more)
    }
}

/// The bounds that matter inside a child: only the outermost ones are cut by them.
fn inside<'a>(
    at: usize,
    low: usize,
    high: usize,
    from: Bound<&'a [u8]>,
    to: Bound<&'a [u8]>,
) -> (Bound<&'a [u8]>, Bound<&'a [u8]>) {
    (
        if at == low { from } else { Bound::Unbounded },
        if at == high { to } else { Bound::Unbounded },
    )
}

#[cfg(test)]
mod tests;
