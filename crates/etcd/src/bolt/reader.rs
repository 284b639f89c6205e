//! Reads a file that may be anything: every number in it is held against the file's length before it is followed, and no page is read twice.

use super::page::{
    BRANCH, BUCKET, BUCKET_BYTES, ELEMENT_BYTES, HEADER_BYTES, Header, LEAF, META, META_BYTES,
    Meta, u32_at, u64_at,
};
use std::fmt;

/// Page sizes that bbolt makes files with.
const PAGE_BYTES_ALLOWED: std::ops::RangeInclusive<usize> = 1024..=65536;
/// Branches above each other at most: a tree of this height would not fit any disk.
const DEPTH_MAX: usize = 32;
/// Bytes of a page with those that belong to it, at most. etcd's largest entries are a few mebibytes.
const PAGE_RUN_BYTES_MAX: u64 = 256 << 20;

/// Where the bytes come from.
pub trait Source {
    /// Number of bytes.
    fn length(&self) -> u64;
    /// Reads `into.len()` bytes from `at`, which lie within the length.
    ///
    /// # Errors
    /// They cannot be read; the text says why.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String>;
}

impl Source for [u8] {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), String> {
        let start = at as usize;
        into.copy_from_slice(&self[start..start + into.len()]);
        Ok(())
    }
}

/// What is wrong with a file, and in which page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The page.
    pub page: u64,
    /// What is wrong with it.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}: {}", self.page, self.what)
    }
}

impl std::error::Error for Damage {}

fn damage<T>(page: u64, what: impl Into<String>) -> Result<T, Damage> {
    Err(Damage {
        page,
        what: what.into(),
    })
}

/// A file whose meta pages were found good.
pub struct Reader<'a, S: Source + ?Sized> {
    source: &'a S,
    page_bytes: usize,
    meta: Meta,
}

/// A page with those that belong to it, and what its header says. An inline bucket's page is shorter than a page.
struct Page {
    id: u64,
    header: Header,
    bytes: Vec<u8>,
}

impl Page {
    fn parse(id: u64, bytes: Vec<u8>) -> Result<Page, Damage> {
        let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else {
            return damage(id, "it is shorter than a page's header");
        };
        let header = Header::read(head);
        if HEADER_BYTES + usize::from(header.count) * ELEMENT_BYTES > bytes.len() {
            return damage(id, format!("it cannot hold {} elements", header.count));
        }
        Ok(Page { id, header, bytes })
    }

    fn element(&self, at: usize) -> usize {
        HEADER_BYTES + at * ELEMENT_BYTES
    }

    /// `length` bytes, `position` behind the start of an element.
    fn content(&self, element: usize, position: u32, length: u32) -> Result<&[u8], Damage> {
        let start = element as u64 + u64::from(position);
        let range = start as usize..(start + u64::from(length)) as usize;
        match self.bytes.get(range) {
            Some(content) => Ok(content),
            None => damage(self.id, "an entry reaches beyond its page"),
        }
    }

    /// Flags, key and value of an entry.
    fn entry(&self, at: usize) -> Result<(u32, &[u8], &[u8]), Damage> {
        let element = self.element(at);
        let [flags, position, key, value] =
            [0, 4, 8, 12].map(|word| u32_at(&self.bytes, element + word));
        let Some(behind) = position.checked_add(key) else {
            return damage(self.id, "an entry reaches beyond its page");
        };
        Ok((
            flags,
            self.content(element, position, key)?,
            self.content(element, behind, value)?,
        ))
    }

    fn child(&self, at: usize) -> u64 {
        u64_at(&self.bytes, self.element(at) + 8)
    }
}

impl<'a, S: Source + ?Sized> Reader<'a, S> {
    /// Finds the newer of the two meta pages.
    ///
    /// # Errors
    /// Neither is good, or the file is shorter than it says.
    pub fn open(source: &'a S) -> Result<Reader<'a, S>, Damage> {
        let (page_bytes, meta) = newest_meta(source)?;
        let told = meta.pages.checked_mul(page_bytes as u64);
        if told.is_none_or(|told| told > source.length()) {
            let pages = meta.pages;
            return damage(
                0,
                format!(
                    "the file ends early: {} bytes, {pages} pages of {page_bytes} were told",
                    source.length()
                ),
            );
        }
        Ok(Reader {
            source,
            page_bytes,
            meta,
        })
    }

    /// Goes through all buckets and entries in order: `visit(bucket, key, value)`.
    ///
    /// # Errors
    /// The first damage met, or what `visit` says.
    pub fn walk<E: From<Damage>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut seen = Seen::new(self.meta.pages);
        let mut buckets = Vec::new();
        self.tree(self.meta.root, &mut seen, &mut |page, at| {
            let (flags, name, value) = page.entry(at)?;
            if flags & BUCKET == 0 {
                return Err(E::from(Damage {
                    page: page.id,
                    what: "an entry outside of all buckets".into(),
                }));
            }
            buckets.push((page.id, name.to_vec(), value.to_vec()));
            Ok(())
        })?;
        for (page, name, value) in buckets {
            let Some(head) = value.first_chunk::<BUCKET_BYTES>() else {
                return Err(Damage {
                    page,
                    what: "a bucket's record is too short".into(),
                }
                .into());
            };
            let mut entry = |page: &Page, at: usize| {
                let (flags, key, value) = page.entry(at)?;
                if flags & BUCKET != 0 {
                    return Err(E::from(Damage {
                        page: page.id,
                        what: "a bucket inside of a bucket, which etcd never makes".into(),
                    }));
                }
                visit(&name, key, value)
            };
            match u64_at(head, 0) {
                0 => leaf(
                    &Page::parse(page, value[BUCKET_BYTES..].to_vec())?,
                    &mut entry,
                )?,
                root => self.tree(root, &mut seen, &mut entry)?,
            }
        }
        Ok(())
    }

    /// Visits the leaves' elements of a tree in order.
    fn tree<E: From<Damage>>(
        &self,
        root: u64,
        seen: &mut Seen,
        visit: &mut impl FnMut(&Page, usize) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut path: Vec<(Page, usize)> = vec![(self.page(root, seen)?, 0)];
        while let Some((page, at)) = path.last_mut() {
            if page.header.flags == LEAF {
                leaf(page, visit)?;
                path.pop();
            } else if *at == usize::from(page.header.count) {
                path.pop();
            } else {
                let child = page.child(*at);
                *at += 1;
                if path.len() == DEPTH_MAX {
                    return Err(Damage {
                        page: child,
                        what: format!("more than {DEPTH_MAX} pages above each other"),
                    }
                    .into());
                }
                path.push((self.page(child, seen)?, 0));
            }
        }
        Ok(())
    }

    /// Reads a page of a tree, once.
    fn page(&self, id: u64, seen: &mut Seen) -> Result<Page, Damage> {
        if id < 2 || id >= self.meta.pages {
            return damage(id, format!("there is none: {} pages", self.meta.pages));
        }
        let mut head = [0; HEADER_BYTES];
        self.fill(id, &mut head)?;
        let header = Header::read(&head);
        if header.id != id {
            return damage(id, format!("it says that it is page {}", header.id));
        }
        if header.flags != LEAF && header.flags != BRANCH {
            return damage(id, format!("neither leaf nor branch: {:#x}", header.flags));
        }
        let run = u64::from(header.overflow) + 1;
        if run > self.meta.pages - id || run * self.page_bytes as u64 > PAGE_RUN_BYTES_MAX {
            return damage(id, format!("it cannot go on over {run} pages"));
        }
        for id in id..id + run {
            if !seen.mark(id) {
                return damage(id, "two places lead to it");
            }
        }
        let mut bytes = vec![0; run as usize * self.page_bytes];
        self.fill(id, &mut bytes)?;
        Page::parse(id, bytes)
    }

    fn fill(&self, id: u64, into: &mut [u8]) -> Result<(), Damage> {
        self.source
            .read(id * self.page_bytes as u64, into)
            .or_else(|error| damage(id, error))
    }
}

/// Visits the elements of a leaf.
fn leaf<E: From<Damage>>(
    page: &Page,
    visit: &mut impl FnMut(&Page, usize) -> Result<(), E>,
) -> Result<(), E> {
    (0..usize::from(page.header.count)).try_for_each(|at| visit(page, at))
}

/// The newer good meta page. The second one lies a page behind the first, and the first says how long a page is, if it is good.
fn newest_meta<S: Source + ?Sized>(source: &S) -> Result<(usize, Meta), Damage> {
    let first = meta_at(source, 0);
    let lengths: Vec<usize> = match &first {
        Ok(meta) => vec![meta.page_bytes as usize],
        Err(_) => std::iter::successors(Some(*PAGE_BYTES_ALLOWED.start()), |length| {
            (length * 2 <= *PAGE_BYTES_ALLOWED.end()).then_some(length * 2)
        })
        .collect(),
    };
    let second = lengths.iter().find_map(|&length| {
        meta_at(source, length as u64)
            .ok()
            .filter(|meta| meta.page_bytes as usize == length)
    });
    let meta = match (first, second) {
        (Ok(first), Some(second)) if second.transaction > first.transaction => second,
        (Err(_), Some(second)) => second,
        (Ok(first), _) => first,
        (Err(what), None) => return damage(0, what),
    };
    let page_bytes = meta.page_bytes as usize;
    if !page_bytes.is_power_of_two() || !PAGE_BYTES_ALLOWED.contains(&page_bytes) {
        return damage(0, format!("pages of {page_bytes} bytes"));
    }
    Ok((page_bytes, meta))
}

fn meta_at<S: Source + ?Sized>(source: &S, start: u64) -> Result<Meta, String> {
    let mut bytes = [0; HEADER_BYTES + META_BYTES];
    if start + bytes.len() as u64 > source.length() {
        return Err("the file is too short for a bbolt file".into());
    }
    source.read(start, &mut bytes)?;
    let (head, record) = bytes.split_at(HEADER_BYTES);
    let header = Header::read(head.first_chunk().expect("a whole header"));
    let meta = Meta::read(record.first_chunk().expect("a whole record"))?;
    if header.flags != META {
        return Err("the first page is no meta page".into());
    }
    Ok(meta)
}

/// Which pages were read. Memory follows the file's length, which was checked.
struct Seen(Vec<u64>);

impl Seen {
    fn new(pages: u64) -> Seen {
        Seen(vec![0; pages.div_ceil(64) as usize])
    }

    /// False if it was marked before.
    fn mark(&mut self, page: u64) -> bool {
        let (word, bit) = (&mut self.0[(page / 64) as usize], 1 << (page % 64));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}
