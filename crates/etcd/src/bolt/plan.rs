//! Where every page of a file will lie. A file is written front to back, but its first pages name pages behind them, so the entries are
//! gone through twice: once for their sizes, once to be written.

use super::page::{BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, PAGE_BYTES};

/// Pages in front of the root: two meta pages and the freelist.
const FRONT_PAGES: u64 = 3;
/// Elements of a page at most; the field could hold one more, which means something else in a freelist.
const ELEMENTS_MAX: usize = 0xFFFE;

/// One page to be, with those that belong to it.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub id: u64,
    pub first_key: Box<[u8]>,
    pub elements: usize,
    /// Bytes used, of [`Planned::pages`] pages.
    pub bytes: usize,
}

impl Planned {
    fn new(first_key: &[u8]) -> Planned {
        Planned {
            id: 0,
            first_key: first_key.into(),
            elements: 0,
            bytes: HEADER_BYTES,
        }
    }

    fn add(&mut self, content: usize) {
        self.elements += 1;
        self.bytes += ELEMENT_BYTES + content;
    }

    fn takes(&self, content: usize) -> bool {
        self.elements == 0
            || (self.bytes + ELEMENT_BYTES + content <= PAGE_BYTES && self.elements < ELEMENTS_MAX)
    }

    pub fn pages(&self) -> u64 {
        self.bytes.div_ceil(PAGE_BYTES) as u64
    }
}

/// A bucket's tree: leaves first, the root last.
#[derive(Clone, Debug)]
pub(super) struct BucketPlan {
    pub name: Box<[u8]>,
    pub levels: Vec<Vec<Planned>>,
}

impl BucketPlan {
    pub fn root(&self) -> u64 {
        self.levels
            .last()
            .and_then(|level| level.first())
            .expect("a tree has a root")
            .id
    }

    /// Puts branches over the leaves until one page is left.
    fn grow(&mut self) {
        while let Some(below) = self.levels.last().filter(|level| level.len() > 1) {
            let mut level: Vec<Planned> = Vec::new();
            for group in groups(below) {
                let mut branch = Planned::new(&below[group.start].first_key);
                for child in &below[group] {
                    branch.add(child.first_key.len());
                }
                level.push(branch);
            }
            self.levels.push(level);
        }
    }
}

/// The children of each branch of a level: as many as fit, spread evenly, because a branch with one child would be a strange sight.
fn groups(children: &[Planned]) -> Vec<std::ops::Range<usize>> {
    let longest = children
        .iter()
        .map(|child| child.first_key.len())
        .max()
        .unwrap_or(0);
    let fit = ((PAGE_BYTES - HEADER_BYTES) / (ELEMENT_BYTES + longest)).max(2);
    let branches = children.len().div_ceil(fit);
    (0..branches)
        .map(|at| at * children.len() / branches..(at + 1) * children.len() / branches)
        .collect()
}

/// Gathers the sizes of all entries, bucket after bucket, both in the order of bytes.
#[derive(Default)]
pub struct Planner {
    buckets: Vec<BucketPlan>,
    last_key: Option<Vec<u8>>,
}

impl Planner {
    /// Begins.
    #[must_use]
    pub fn new() -> Planner {
        Planner::default()
    }

    /// Begins a bucket, which may stay empty.
    ///
    /// # Panics
    /// Its name does not follow that of the bucket before.
    pub fn bucket(&mut self, name: &[u8]) {
        if let Some(last) = self.buckets.last() {
            assert!(*last.name < *name, "bucket {name:?} after {:?}", last.name);
        }
        self.last_key = None;
        self.buckets.push(BucketPlan {
            name: name.into(),
            levels: vec![vec![Planned::new(&[])]],
        });
    }

    /// Adds an entry to the bucket begun last.
    ///
    /// # Panics
    /// No bucket was begun, or the key does not follow the one before.
    pub fn entry(&mut self, key: &[u8], value_bytes: usize) {
        if let Some(last) = &self.last_key {
            assert!(last[..] < *key, "key {key:?} after {last:?}");
        }
        self.last_key.get_or_insert_default().clear();
        self.last_key.get_or_insert_default().extend_from_slice(key);
        let bucket = self.buckets.last_mut().expect("a bucket was begun");
        let leaves = &mut bucket.levels[0];
        let content = key.len() + value_bytes;
        let last = leaves.last_mut().expect("a bucket has a leaf");
        if last.elements == 0 {
            *last = Planned::new(key);
        } else if !last.takes(content) {
            leaves.push(Planned::new(key));
        }
        leaves.last_mut().expect("a bucket has a leaf").add(content);
    }

    /// Ends: every page gets its place.
    #[must_use]
    pub fn finish(self) -> Plan {
        let mut root = Planned::new(&[]);
        for bucket in &self.buckets {
            root.add(bucket.name.len() + BUCKET_BYTES);
        }
        root.id = FRONT_PAGES;
        let mut next = root.id + root.pages();
        let mut buckets = self.buckets;
        for bucket in &mut buckets {
            bucket.grow();
            for page in bucket.levels.iter_mut().flatten() {
                page.id = next;
                next += page.pages();
            }
        }
        Plan {
            root,
            buckets,
            pages: next,
        }
    }
}

/// Where every page lies.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) root: Planned,
    pub(super) buckets: Vec<BucketPlan>,
    pub(super) pages: u64,
}

impl Plan {
    /// Bytes of the file.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.pages * PAGE_BYTES as u64
    }
}
