//! How pages, their elements and the meta record lie in bytes.

/// Bytes of a page. A page that holds an entry too large for it goes on over the pages behind it.
pub const PAGE_BYTES: usize = 4096;
/// What a meta page begins with, behind its header.
pub const MAGIC: u32 = 0xED0C_DAED;
/// The format's version.
pub(super) const VERSION: u32 = 2;

pub(super) const BRANCH: u16 = 0x01;
pub(super) const LEAF: u16 = 0x02;
pub(super) const META: u16 = 0x04;
pub(super) const FREELIST: u16 = 0x10;

/// Bytes of a page's header: id, flags, count, overflow.
pub(super) const HEADER_BYTES: usize = 16;
/// Bytes of an element in front of the keys and values of its page, in leaves and branches alike.
pub(super) const ELEMENT_BYTES: usize = 16;
/// Bytes of a meta record, its checksum included.
pub(super) const META_BYTES: usize = 64;
/// Bytes of a bucket's value: root page and sequence. A root of 0 says that the bucket's only page follows in the value itself.
pub(super) const BUCKET_BYTES: usize = 16;
/// Flag of a leaf's element whose value is a bucket.
pub(super) const BUCKET: u32 = 0x01;

/// The header of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub id: u64,
    pub flags: u16,
    pub count: u16,
    /// Pages behind this one that belong to it.
    pub overflow: u32,
}

impl Header {
    pub fn write(self, to: &mut Vec<u8>) {
        to.extend_from_slice(&self.id.to_le_bytes());
        to.extend_from_slice(&self.flags.to_le_bytes());
        to.extend_from_slice(&self.count.to_le_bytes());
        to.extend_from_slice(&self.overflow.to_le_bytes());
    }

    pub fn read(bytes: &[u8; HEADER_BYTES]) -> Header {
        Header {
            id: u64_at(bytes, 0),
            flags: u16::from_le_bytes([bytes[8], bytes[9]]),
            count: u16::from_le_bytes([bytes[10], bytes[11]]),
            overflow: u32_at(bytes, 12),
        }
    }
}

/// What a meta page tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    pub page_bytes: u32,
    pub root: u64,
    pub freelist: u64,
    /// Number of pages.
    pub pages: u64,
    /// The meta page with the higher number is the newer one.
    pub transaction: u64,
}

impl Meta {
    pub fn write(self, to: &mut Vec<u8>) {
        let start = to.len();
        for number in [MAGIC, VERSION, self.page_bytes, 0] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        for number in [self.root, 0, self.freelist, self.pages, self.transaction] {
            to.extend_from_slice(&number.to_le_bytes());
        }
        let checksum = fnv1a(&to[start..]);
        to.extend_from_slice(&checksum.to_le_bytes());
    }

    /// The record, or what is wrong with it.
    pub fn read(bytes: &[u8; META_BYTES]) -> Result<Meta, &'static str> {
        if u32_at(bytes, 0) != MAGIC {
            return Err("it is no bbolt file: the magic number is another one");
        }
        if u32_at(bytes, 4) != VERSION {
            return Err("the format's version is not 2");
        }
        if u64_at(bytes, META_BYTES - 8) != fnv1a(&bytes[..META_BYTES - 8]) {
            return Err("the checksum of a meta page is wrong");
        }
        Ok(Meta {
            page_bytes: u32_at(bytes, 8),
            root: u64_at(bytes, 16),
            freelist: u64_at(bytes, 32),
            pages: u64_at(bytes, 40),
            transaction: u64_at(bytes, 48),
        })
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// FNV-1a of 64 bits, the checksum of meta pages.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3)
    })
}
