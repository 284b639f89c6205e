//! What commands print, and how they end.

use client::{Answer, ClientError};
use proto::etcdserverpb::ResponseHeader;
use proto::mvccpb::KeyValue;
use serde_json::{Map, Value, json};
use std::io::Write;
use std::process::ExitCode;

/// The forms of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Output {
    /// For people
    Text,
    /// One JSON value per line, for programs
    Json,
}

/// How a command failed; the kind decides the exit code.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The request was understood and refused, or the system refused.
    Refused(String),
    /// The member that was to run was removed from its cluster.
    Departed(String),
    /// The command line makes no sense.
    Usage(String),
    /// No member could be reached, or nobody knows what became of the request.
    Unreachable(String),
    /// The code to end with; what there is to say was said, by a command that this one ran or in the log.
    Command(u8),
    /// The reader of stdout went away; nothing to say about it.
    Quiet,
}

impl Failed {
    /// Something about this machine failed.
    pub(crate) fn system(error: impl std::fmt::Display) -> Failed {
        Failed::Refused(error.to_string())
    }

    pub(crate) fn print(&self) {
        match self {
            Failed::Refused(text) | Failed::Usage(text) | Failed::Departed(text) => {
                eprintln!("error: {text}")
            }
            Failed::Unreachable(text) => {
                eprintln!("error: {text}");
                let hint = if text.contains("no leader") {
                    "does a majority of the members run? `synod status --all` and `synod doctor` tell more"
                } else {
                    "is a member running there? start some with `synod dev`, or name others with --endpoints; one with TLS needs --cacert too"
                };
                eprintln!("hint: {hint}");
            }
            Failed::Command(_) | Failed::Quiet => {}
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code())
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failed::Refused(_) => 1,
            Failed::Usage(_) => 2,
            Failed::Unreachable(_) => 3,
            Failed::Departed(_) => 4,
            Failed::Command(code) => *code,
            Failed::Quiet => 0,
        }
    }
}

impl From<ClientError> for Failed {
    fn from(error: ClientError) -> Failed {
        let text = error.to_string();
        match error {
            ClientError::Unreachable { .. } | ClientError::Unknown { .. } => {
                Failed::Unreachable(text)
            }
            ClientError::Refused { .. }
            | ClientError::SessionLost { .. }
            | ClientError::BadValue { .. } => Failed::Refused(text),
            ClientError::BadEndpoint { .. } | ClientError::BadCertificates { .. } => {
                Failed::Usage(text)
            }
        }
    }
}

impl From<std::io::Error> for Failed {
    fn from(error: std::io::Error) -> Failed {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failed::Quiet,
            _ => Failed::system(error),
        }
    }
}

/// Writes a line to stdout.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<(), Failed> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

/// Writes bytes as they are, and a line's end.
pub(crate) fn bytes_line(bytes: &[u8]) -> Result<(), Failed> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.write_all(b"\n")?)
}

/// Begins a JSON result with where in history it stands.
pub(crate) fn json_head<T>(
    answer: &Answer<T>,
    header: Option<&ResponseHeader>,
) -> Map<String, Value> {
    let mut map = Map::new();
    if let Some(header) = header {
        map.insert("revision".into(), header.revision.into());
        map.insert("term".into(), header.raft_term.into());
        map.insert("member".into(), format!("{:x}", header.member_id).into());
    }
    if let Some(stamp) = &answer.stamp {
        map.insert("stamp".into(), stamp.as_str().into());
    }
    map
}

/// Bytes in JSON: under `name` if they are text, else under `name_base64`.
pub(crate) fn put_bytes(map: &mut Map<String, Value>, name: &str, bytes: &[u8]) {
    match std::str::from_utf8(bytes) {
        Ok(text) => map.insert(name.into(), text.into()),
        Err(_) => map.insert(format!("{name}_base64"), base64(bytes).into()),
    };
}

/// A key in JSON. `value` is left out when the request asked for keys only.
pub(crate) fn json_key(kv: &KeyValue, value: bool) -> Value {
    let mut map = Map::new();
    put_bytes(&mut map, "key", &kv.key);
    if value {
        put_bytes(&mut map, "value", &kv.value);
    }
    map.insert("create_revision".into(), kv.create_revision.into());
    map.insert("mod_revision".into(), kv.mod_revision.into());
    map.insert("version".into(), kv.version.into());
    if kv.lease != 0 {
        map.insert("lease".into(), json!(lease_text(kv.lease)));
    }
    Value::Object(map)
}

/// Keys and values, each on a line.
pub(crate) fn key_text_all(kvs: &[KeyValue]) -> Result<(), Failed> {
    for kv in kvs {
        bytes_line(&kv.key)?;
        bytes_line(&kv.value)?;
    }
    Ok(())
}

/// A lease's id as people and scripts carry it.
pub(crate) fn lease_text(id: i64) -> String {
    format!("{id:x}")
}

/// Reads what [`lease_text`] wrote.
pub(crate) fn lease_id(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    i64::from_str_radix(digits, 16)
        .map_err(|_| "a lease id is a hexadecimal number, as `lease grant` printed it".into())
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The end of the range of all keys that begin with `prefix`; one zero byte, "to the end", if there is no upper bound.
pub(crate) fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * at) & 63) as usize] as char;
            text.push(if at <= chunk.len() { digit } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (plain, coded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe]), "//4=");
    }

    #[test]
    fn a_prefix_ends_where_the_next_one_begins() {
        assert_eq!(prefix_end(b"a/"), b"a0");
        assert_eq!(prefix_end(b"a\xff"), b"b");
        assert_eq!(prefix_end(b"\xff\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }

    #[test]
    fn a_lease_id_comes_back_from_its_text() {
        assert_eq!(
            lease_id(&lease_text(0x694d_0000_1234)),
            Ok(0x694d_0000_1234)
        );
        assert_eq!(lease_id("0x10"), Ok(16));
        assert!(lease_id("lease").is_err());
    }
}
