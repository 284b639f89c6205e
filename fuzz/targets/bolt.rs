//! A file that somebody says is etcd's: any bytes are walked to the end or are refused, without following a number out of the file; what is walked is
//! taken as the contents of an etcd or refused.
#![no_main]

use etcd::bolt::{Damage, MAGIC, PAGE_BYTES, Reader};
use etcd::import::import;
use libfuzzer_sys::fuzz_target;
use state::{Raise, Settings};

/// Bytes of a meta page's header, and of its record with the checksum at the end.
const META: std::ops::Range<usize> = 16..80;

fuzz_target!(|bytes: &[u8]| {
    let mut file = bytes.to_vec();
    // Checksums are mended, because what is behind one would never be reached otherwise.
    for page in [0, PAGE_BYTES] {
        mend(&mut file, page);
    }
    if let Ok(reader) = Reader::open(&file[..]) {
        let mut entries = 0_u64;
        let walked = reader.walk(|_, key, value| {
            entries += 1;
            assert!(key.len() + value.len() <= file.len());
            Ok::<(), Damage>(())
        });
        if walked.is_ok() {
            assert!(entries <= file.len() as u64 / 16, "{entries} entries");
            let raise = Raise {
                positions: 1 << 40,
                revisions: 1_000_000_000,
            };
            let key = bytes::Bytes::from_static(b"key");
            if let Ok(imported) = import(&file[..], Settings::default(), raise, &key) {
                assert!(imported.state.keys() <= entries);
                assert!(imported.state.revision() >= raise.revisions);
            }
        }
    }
});

fn mend(file: &mut [u8], page: usize) {
    let Some(meta) = file.get_mut(page + META.start..page + META.end) else {
        return;
    };
    meta[..4].copy_from_slice(&MAGIC.to_le_bytes());
    meta[4..8].copy_from_slice(&2_u32.to_le_bytes());
    let fnv1a = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3);
    let checksum = meta[..56].iter().fold(0xCBF2_9CE4_8422_2325, fnv1a);
    meta[56..].copy_from_slice(&checksum.to_le_bytes());
}
