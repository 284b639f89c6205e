//! The identity record: who the data directory belongs to. One small file, replaced as a whole.

use crate::directory::{read_file, write_file};
use crate::{Disk, DiskError, OpenError};
use bytes::Bytes;
use prost::Message as _;
use raft::{Configuration, Incarnation, MemberId};

const FILE: &str = "identity";
const STAGED: &str = "identity.tmp";
const MAGIC: &[u8; 8] = b"SYNODID\n";
/// Version of the record.
const VERSION: u32 = 1;
/// A configuration of a thousand members is far shorter.
const BYTES_MAX: u64 = 1 << 20;
/// Magic, version, and the checksum at the end.
const FRAME_BYTES: usize = 8 + 4 + 4;

/// Who a data directory belongs to. Written once before the member speaks, then when it joins or bootstraps a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The member. It is the directory's own id unless the member took a place that was prepared for it.
    pub member: MemberId,
    /// The directory's own id: random, made when it was first used, and borne by the files of its log.
    pub directory: MemberId,
    /// The incarnation it was admitted as; 0 before.
    pub incarnation: Incarnation,
    /// The cluster; 0 before it belongs to one.
    pub cluster: u64,
    /// The configuration the cluster began with, as this member learned it; empty before.
    pub bootstrap: Configuration,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Record {
    #[prost(fixed64, tag = "1")]
    member: u64,
    #[prost(uint32, tag = "2")]
    incarnation: u32,
    #[prost(fixed64, tag = "3")]
    cluster: u64,
    #[prost(bytes = "bytes", tag = "4")]
    bootstrap: Bytes,
    /// Left out while it is that of the member.
    #[prost(fixed64, optional, tag = "5")]
    directory: Option<u64>,
}

/// Reads the identity; a directory that has none yet gets a new one for `new_member`.
///
/// # Errors
/// The record is damaged or newer, or the disk failed.
pub(crate) fn load_or_create<D: Disk>(
    disk: &mut D,
    new_member: MemberId,
) -> Result<Identity, OpenError> {
    match read_file(disk, FILE, BYTES_MAX) {
        Ok(bytes) => decode(bytes.unwrap_or_default()),
        Err(DiskError::NotFound) => {
            let identity = Identity {
                member: new_member,
                directory: new_member,
                incarnation: Incarnation(0),
                cluster: 0,
                bootstrap: Configuration::default(),
            };
            write(disk, &identity).map_err(OpenError::Disk)?;
            Ok(identity)
        }
        Err(error) => Err(OpenError::Disk(error)),
    }
}

/// Replaces the identity, durably.
///
/// # Errors
/// The disk failed; the old record stands.
pub(crate) fn write<D: Disk>(disk: &mut D, identity: &Identity) -> Result<(), DiskError> {
    write_file(disk, STAGED, FILE, &encode(identity))
}

fn encode(identity: &Identity) -> Vec<u8> {
    let record = Record {
        member: identity.member.0,
        incarnation: identity.incarnation.0,
        cluster: identity.cluster,
        bootstrap: identity.bootstrap.encode(),
        directory: Some(identity.directory.0).filter(|id| *id != identity.member.0),
    };
    let mut bytes = Vec::with_capacity(FRAME_BYTES + record.encoded_len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&record.encode_to_vec());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

fn decode(bytes: Vec<u8>) -> Result<Identity, OpenError> {
    let damaged = |what: &str| {
        OpenError::Damaged(format!(
            "the '{FILE}' file: {what}; the member cannot know who it is: empty the directory to let it join as a new incarnation"
        ))
    };
    if bytes.len() < FRAME_BYTES || bytes[..8] != MAGIC[..] {
        return Err(damaged("not an identity record"));
    }
    let (body, checksum) = bytes.split_at(bytes.len() - 4);
    if crc32c::crc32c(body).to_le_bytes() != checksum {
        return Err(damaged("its checksum does not match"));
    }
    let found = u32::from_le_bytes(body[8..12].try_into().expect("four bytes"));
    if found > VERSION {
        return Err(OpenError::NewerVersion {
            found,
            known: VERSION,
        });
    }
    let record = Record::decode(&body[12..]).map_err(|error| damaged(&error.to_string()))?;
    Ok(Identity {
        member: MemberId(record.member),
        directory: MemberId(record.directory.unwrap_or(record.member)),
        incarnation: Incarnation(record.incarnation),
        cluster: record.cluster,
        bootstrap: Configuration::decode(record.bootstrap).map_err(|error| damaged(&error.0))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DiskFile;
    use crate::memory_disk::{Platter, Survival};

    fn joined() -> Identity {
        Identity {
            member: MemberId(7),
            directory: MemberId(7),
            incarnation: Incarnation(1),
            cluster: 0xC1,
            bootstrap: Configuration::default(),
        }
    }

    #[test]
    fn a_member_keeps_the_id_it_made_first() {
        let platter = Platter::new(1);
        assert_eq!(
            load_or_create(&mut platter.start_process(), MemberId(7))
                .unwrap()
                .member,
            MemberId(7)
        );
        platter.lose_power(Survival::Nothing);
        assert_eq!(
            load_or_create(&mut platter.start_process(), MemberId(8))
                .unwrap()
                .member,
            MemberId(7)
        );
    }

    #[test]
    fn a_crash_while_it_is_replaced_leaves_the_old_or_the_new_one() {
        for operations in 0..6 {
            for survival in [Survival::Nothing, Survival::Everything, Survival::Coin] {
                let platter = Platter::new(operations);
                let mut disk = platter.start_process();
                let old = load_or_create(&mut disk, MemberId(7)).unwrap();
                platter.set_fuse(operations, None);
                let written = write(&mut disk, &joined());
                platter.lose_power(survival);
                let found = load_or_create(&mut platter.start_process(), MemberId(9)).unwrap();
                assert!(
                    found == joined() || (found == old && written.is_err()),
                    "{found:?} after {operations} operations"
                );
            }
        }
    }

    #[test]
    fn a_directory_keeps_its_own_id_in_another_members_place() {
        let platter = Platter::new(1);
        let mut disk = platter.start_process();
        let taken = Identity {
            directory: MemberId(9),
            ..joined()
        };
        write(&mut disk, &taken).unwrap();
        assert_eq!(load_or_create(&mut disk, MemberId(1)).unwrap(), taken);
    }

    #[test]
    fn any_flipped_bit_is_refused_not_papered_over() {
        let length = encode(&joined()).len() as u64;
        for offset in 0..length {
            let platter = Platter::new(1);
            let mut disk = platter.start_process();
            write(&mut disk, &joined()).unwrap();
            assert!(platter.flip_bit(FILE, offset, offset as u8));
            let opened = load_or_create(&mut disk, MemberId(9));
            assert!(
                matches!(opened, Err(OpenError::Damaged(_))),
                "byte {offset}: {opened:?}"
            );
        }
    }

    #[test]
    fn a_cut_record_is_refused() {
        let platter = Platter::new(1);
        let mut disk = platter.start_process();
        write(&mut disk, &joined()).unwrap();
        disk.open(FILE).unwrap().set_len(10).unwrap();
        assert!(matches!(
            load_or_create(&mut disk, MemberId(9)),
            Err(OpenError::Damaged(_))
        ));
    }

    #[test]
    fn its_bytes_are_these() {
        let golden =
            "53594e4f4449440a01000000090700000000000000100119c1000000000000002201014184993c";
        let hex: String = encode(&joined())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(hex, golden);
    }
}
