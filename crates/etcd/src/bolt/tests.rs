use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Entries = BTreeMap<Vec<u8>, Vec<u8>>;
type Buckets = BTreeMap<Vec<u8>, Entries>;

fn written(buckets: &Buckets) -> Vec<u8> {
    let mut planner = Planner::new();
    for (name, entries) in buckets {
        planner.bucket(name);
        for (key, value) in entries {
            planner.entry(key, value.len());
        }
    }
    let plan = planner.finish();
    let bytes = plan.bytes();
    let mut writer = Writer::new(plan);
    let mut file = writer.take();
    for (key, value) in buckets.values().flatten() {
        writer.entry(key, value);
        file.append(&mut writer.take());
    }
    file.append(&mut writer.take());
    assert!(writer.is_done());
    assert_eq!(file.len() as u64, bytes);
    file
}

fn read(file: &[u8]) -> Result<Buckets, Damage> {
    let mut buckets = Buckets::new();
    Reader::open(file)?.walk(|bucket, key, value| {
        let known = buckets.entry(bucket.to_vec()).or_default();
        known.insert(key.to_vec(), value.to_vec());
        Ok::<(), Damage>(())
    })?;
    Ok(buckets)
}

/// Keys as etcd's key bucket has them, of values with these lengths.
fn numbered(count: u64, value: impl Fn(u64) -> usize) -> Entries {
    (0..count)
        .map(|number| (number.to_be_bytes().to_vec(), vec![7; value(number)]))
        .collect()
}

fn buckets(named: &[(&str, Entries)]) -> Buckets {
    named
        .iter()
        .map(|(name, entries)| (name.as_bytes().to_vec(), entries.clone()))
        .collect()
}

#[test]
fn what_is_written_is_read_again() {
    let large = buckets(&[
        ("alarm", BTreeMap::new()),
        (
            "key",
            numbered(100_000, |number| (number % 700) as usize + 1),
        ),
        (
            "lease",
            numbered(300, |number| if number == 7 { 3_000_000 } else { 9 }),
        ),
        ("meta", numbered(1, |_| 0)),
        ("zempty", BTreeMap::new()),
    ]);
    let file = written(&large);
    let mut expected = large;
    // A walk tells nothing of buckets without entries.
    expected.retain(|_, entries| !entries.is_empty());
    assert!(read(&file).expect("it is good") == expected);
}

#[test]
fn a_file_without_buckets_is_a_file() {
    assert_eq!(read(&written(&Buckets::new())), Ok(Buckets::new()));
}

#[test]
fn the_front_of_a_file_lies_as_bbolt_lays_it() {
    let file = written(&buckets(&[("key", numbered(1, |_| 1))]));
    let hex: String = file[..80]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        hex,
        "00000000000000000400000000000000edda0ced020000000010000000000000030000000000000000000000000000000200000000000000050000000000000000000000000000002f169f59d9834f56"
    );
}

#[test]
fn what_is_no_file_of_bbolt_is_refused_with_the_reason() {
    let refused = |file: &[u8]| match Reader::open(file) {
        Ok(_) => panic!("taken for good"),
        Err(damage) => damage.to_string(),
    };
    assert!(refused(b"").contains("too short"));
    assert!(refused(&[0; 10_000]).contains("magic"));
    let file = written(&buckets(&[("key", numbered(1000, |_| 100))]));
    assert!(refused(&file[..file.len() - 1]).contains("ends early"));
}

#[test]
fn one_bad_meta_page_is_borne() {
    let good = buckets(&[("key", numbered(1000, |_| 100))]);
    for page in [0, 1] {
        let mut file = written(&good);
        file[page * PAGE_BYTES + 40] ^= 1;
        assert_eq!(read(&file).as_ref(), Ok(&good));
    }
}

#[test]
fn a_page_that_two_places_lead_to_is_refused() {
    let mut file = written(&buckets(&[
        ("a", numbered(1, |_| 1)),
        ("b", numbered(1, |_| 1)),
    ]));
    // Both buckets' records: root page 4 and root page 5, behind two elements and the name.
    let content = 3 * PAGE_BYTES + 16 + 2 * 16;
    assert_eq!(
        (file[content + 1], file[content + 1 + 16 + 1]),
        (4, 5),
        "the root lies elsewhere"
    );
    file[content + 1 + 16 + 1] = 4;
    let damage = read(&file).expect_err("it is bad");
    assert_eq!(damage.to_string(), "page 4: two places lead to it");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// S3 for files: whatever was changed, the reader ends, and with a result or a reason.
    #[test]
    fn s3_a_changed_file_never_crashes_the_reader(changes in prop::collection::vec((0_usize..40_000, any::<u8>()), 1..20)) {
        let mut file = written(&buckets(&[("key", numbered(300, |number| if number == 5 { 9000 } else { 30 })), ("meta", numbered(3, |_| 8))]));
        let length = file.len();
        for (at, byte) in changes {
            file[at % length] = byte;
        }
        let _ = read(&file);
    }

    #[test]
    fn entries_of_all_sizes_come_back(entries in prop::collection::btree_map(prop::collection::vec(any::<u8>(), 1..300), prop::collection::vec(any::<u8>(), 0..2000), 1..60)) {
        let all = Buckets::from([(b"key".to_vec(), entries)]);
        prop_assert_eq!(read(&written(&all)), Ok(all));
    }
}
