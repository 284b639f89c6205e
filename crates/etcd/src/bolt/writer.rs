//! Writes a planned file front to back.

use super::page::{
    BRANCH, BUCKET, ELEMENT_BYTES, FREELIST, HEADER_BYTES, Header, LEAF, META, Meta, PAGE_BYTES,
};
use super::plan::{BucketPlan, Plan, Planned};

/// Takes the entries a second time, in the order of the plan, and gives the file's bytes as they become known.
pub struct Writer {
    plan: Plan,
    /// The bucket and leaf being filled.
    at: (usize, usize),
    leaf: Elements,
    out: Vec<u8>,
}

/// The elements of a page being filled, and behind them their keys and values.
#[derive(Default)]
struct Elements {
    heads: Vec<[u32; 4]>,
    content: Vec<u8>,
}

impl Elements {
    /// Adds an element with its words, of which `position` is to hold where its content lies.
    fn add(&mut self, words: [u32; 4], position: usize, content: [&[u8]; 2]) {
        let mut words = words;
        words[position] = self.content.len() as u32;
        self.heads.push(words);
        self.content.extend_from_slice(content[0]);
        self.content.extend_from_slice(content[1]);
    }

    /// Writes the page and forgets the elements.
    ///
    /// # Panics
    /// The elements are not those that were planned.
    fn write(&mut self, planned: &Planned, flags: u16, out: &mut Vec<u8>) {
        let bytes = HEADER_BYTES + self.heads.len() * ELEMENT_BYTES + self.content.len();
        assert_eq!(
            (self.heads.len(), bytes),
            (planned.elements, planned.bytes),
            "page {} differs from its plan",
            planned.id
        );
        let start = out.len();
        header(planned, flags).write(out);
        let position = usize::from(flags == LEAF);
        let elements = self.heads.len();
        for (at, mut words) in self.heads.drain(..).enumerate() {
            // Positions count from the element itself.
            words[position] += ((elements - at) * ELEMENT_BYTES) as u32;
            out.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        }
        out.append(&mut self.content);
        out.resize(start + planned.pages() as usize * PAGE_BYTES, 0);
    }
}

fn header(planned: &Planned, flags: u16) -> Header {
    Header {
        id: planned.id,
        flags,
        count: planned.elements as u16,
        overflow: (planned.pages() - 1) as u32,
    }
}

impl Writer {
    /// Begins a file.
    #[must_use]
    pub fn new(plan: Plan) -> Writer {
        let mut writer = Writer {
            plan,
            at: (0, 0),
            leaf: Elements::default(),
            out: Vec::new(),
        };
        writer.write_front();
        writer.end_empty_buckets();
        writer
    }

    /// Adds the next entry of the plan.
    ///
    /// # Panics
    /// It is not the planned one.
    pub fn entry(&mut self, key: &[u8], value: &[u8]) {
        let (bucket, leaf) = self.at;
        let planned = &self.plan.buckets[bucket].levels[0][leaf];
        if self.leaf.heads.is_empty() {
            assert_eq!(*planned.first_key, *key, "another entry was planned here");
        }
        let words = [0, 0, key.len() as u32, value.len() as u32];
        self.leaf.add(words, 1, [key, value]);
        if self.leaf.heads.len() == planned.elements {
            self.leaf.write(planned, LEAF, &mut self.out);
            self.at.1 += 1;
            if self.at.1 == self.plan.buckets[bucket].levels[0].len() {
                self.end_bucket();
                self.end_empty_buckets();
            }
        }
    }

    /// Takes what was written since the last call.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Bytes written and not taken yet.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.out.len()
    }

    /// All planned entries were written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.at.0 == self.plan.buckets.len()
    }

    /// Meta pages, freelist and root.
    fn write_front(&mut self) {
        for id in [0, 1] {
            let header = Header {
                id,
                flags: META,
                count: 0,
                overflow: 0,
            };
            header.write(&mut self.out);
            let meta = Meta {
                page_bytes: PAGE_BYTES as u32,
                root: self.plan.root.id,
                freelist: 2,
                pages: self.plan.pages,
                transaction: id,
            };
            meta.write(&mut self.out);
            self.out.resize((id as usize + 1) * PAGE_BYTES, 0);
        }
        let freelist = Header {
            id: 2,
            flags: FREELIST,
            count: 0,
            overflow: 0,
        };
        freelist.write(&mut self.out);
        self.out.resize(3 * PAGE_BYTES, 0);
        let mut root = Elements::default();
        for bucket in &self.plan.buckets {
            let mut value = bucket.root().to_le_bytes().to_vec();
            value.extend_from_slice(&0_u64.to_le_bytes());
            let words = [BUCKET, 0, bucket.name.len() as u32, value.len() as u32];
            root.add(words, 1, [&bucket.name, &value]);
        }
        root.write(&self.plan.root, LEAF, &mut self.out);
    }

    /// Writes the buckets that come next and hold nothing.
    fn end_empty_buckets(&mut self) {
        while let Some(bucket) = self.plan.buckets.get(self.at.0)
            && bucket.levels[0][0].elements == 0
        {
            Elements::default().write(&bucket.levels[0][0], LEAF, &mut self.out);
            self.end_bucket();
        }
    }

    /// Writes the branches over the leaves of the bucket at work.
    fn end_bucket(&mut self) {
        let BucketPlan { levels, .. } = &self.plan.buckets[self.at.0];
        for pair in levels.windows(2) {
            let mut children = pair[0].iter();
            for branch in &pair[1] {
                let mut elements = Elements::default();
                for child in children.by_ref().take(branch.elements) {
                    let id = [child.id as u32, (child.id >> 32) as u32];
                    let words = [0, child.first_key.len() as u32, id[0], id[1]];
                    elements.add(words, 0, [&child.first_key, &[]]);
                }
                elements.write(branch, BRANCH, &mut self.out);
            }
        }
        self.at = (self.at.0 + 1, 0);
    }
}
