//! Answers with many keys: keys and values copied into shared pages, so that an answer costs one copy of its bytes and few allocations.

use crate::KeyValue;
use crate::record::Record;
use bytes::Bytes;

const PAGE_BYTES_MIN: usize = 1 << 10;
const PAGE_BYTES_MAX: usize = 64 << 10;

/// Collects keys in order. Each page is allocated once and never grows.
pub(crate) struct Pages {
    page: Vec<u8>,
    page_bytes: usize,
    /// Metadata of the keys in `page`, with the lengths of key and value.
    open: Vec<(KeyValue, u32, u32)>,
}

impl Pages {
    pub fn new() -> Pages {
        Pages {
            page: Vec::new(),
            page_bytes: 0,
            open: Vec::new(),
        }
    }

    /// Copies a record; `done` receives the keys of a page once it is full.
    pub fn push(&mut self, record: &Record<'_>, with_value: bool, done: &mut Vec<KeyValue>) {
        let value = if with_value { record.value } else { &[] };
        let length = record.key.len() + value.len();
        if self.page.len() + length > self.page.capacity() {
            self.flush(done);
            // The first key gets a page of its size: most answers have one.
            let bytes = if self.page_bytes == 0 {
                length
            } else {
                length.max(self.page_bytes)
            };
            self.page_bytes = (self.page_bytes * 2).clamp(PAGE_BYTES_MIN, PAGE_BYTES_MAX);
            self.page = Vec::with_capacity(bytes);
        }
        self.page.extend_from_slice(record.key);
        self.page.extend_from_slice(value);
        let meta = KeyValue {
            key: Bytes::new(),
            value: Bytes::new(),
            create_revision: record.create_revision,
            mod_revision: record.revision,
            version: record.version,
            lease: record.lease,
        };
        self.open
            .push((meta, record.key.len() as u32, value.len() as u32));
    }

    /// Gives the keys of the page at work to `done`.
    pub fn flush(&mut self, done: &mut Vec<KeyValue>) {
        let page = Bytes::from(std::mem::take(&mut self.page));
        let mut at = 0;
        for (mut kv, key, value) in self.open.drain(..) {
            let (key_end, end) = (at + key as usize, at + key as usize + value as usize);
            kv.key = page.slice(at..key_end);
            kv.value = page.slice(key_end..end);
            at = end;
            done.push(kv);
        }
    }

    /// Keys not given yet.
    pub fn pending(&self) -> usize {
        self.open.len()
    }
}
