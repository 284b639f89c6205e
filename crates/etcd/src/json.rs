//! Requests in JSON, as etcd's gateway reads them: fields by either of their names, 64-bit numbers also as texts, enumerations by name or by any
//! number, bytes in either alphabet of base64. Refusals are in the words of Go's packages encoding/json (for what is no JSON) and protojson (for what
//! is no such message), because that is what clients of etcd have come to see.
//!
//! Names that a message of etcd's does not have are passed over, as there. In a message of Synod's own API they are refused: a guard whose name is
//! misspelt would guard nothing.

mod number;
mod syntax;
mod text;

use prost::encoding::{WireType, encode_key, encode_varint};
use prost::{Message, Name};
use proto::shape::{self, Field, Kind};
use std::collections::BTreeSet;

/// Of the messages of Synod's own API.
const OWN_PACKAGE: &str = "synod.";

/// Messages inside each other; prost reads no more.
const DEPTH_MAX: usize = 90;

/// Reads the message at the front of a text; with it comes how many bytes of the text it took. `None` if there is nothing but white space.
///
/// # Errors
/// There is no such message; the text says why and where.
pub fn read<M: Message + Name + Default>(text: &[u8]) -> Result<Option<(M, usize)>, String> {
    let Some(value) = syntax::first_value(text)? else {
        return Ok(None);
    };
    let shape = shape::of::<M>();
    let mut reader = Reader {
        text: &text[value.clone()],
        at: 0,
        strict: shape.name.starts_with(OWN_PACKAGE),
    };
    let mut wire = Vec::with_capacity(value.len());
    reader.message(shape, &mut wire, 0)?;
    let message = M::decode(wire.as_slice()).map_err(|error| format!("proto: {error}"))?;
    Ok(Some((message, value.end)))
}

/// Reads the tokens of a value that is known to be JSON, but for what stands in its strings, and writes the message that they make.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    /// Unknown names are refused.
    strict: bool,
}

/// A piece of JSON; commas and colons say nothing that order does not.
struct Token<'a> {
    at: usize,
    raw: &'a [u8],
    kind: Piece,
}

enum Piece {
    Open,
    Close,
    OpenList,
    CloseList,
    Text(String),
    Number,
    True,
    False,
    Null,
}

/// What became of a value.
#[must_use]
enum Written {
    Value,
    /// A name that stands for nothing.
    Nothing,
    /// It is of another kind than wanted.
    Wrong,
}

impl<'a> Reader<'a> {
    fn token(&mut self) -> Result<Token<'a>, String> {
        let silent = |byte: &&u8| b" \t\r\n,:".contains(byte);
        self.at += self.text[self.at..].iter().take_while(silent).count();
        let at = self.at;
        let rest = &self.text[at..];
        let word = |byte: &&u8| !b" \t\r\n,:]}".contains(byte);
        let (kind, len) = match rest.first().expect("a value of JSON has an end") {
            b'{' => (Piece::Open, 1),
            b'}' => (Piece::Close, 1),
            b'[' => (Piece::OpenList, 1),
            b']' => (Piece::CloseList, 1),
            b'"' => {
                let (text, len) = text::read(rest).map_err(|fault| match fault {
                    Some(what) => self.syntax(at, &what),
                    None => "proto: unexpected EOF".into(),
                })?;
                (Piece::Text(text), len)
            }
            b't' => (Piece::True, 4),
            b'f' => (Piece::False, 5),
            b'n' => (Piece::Null, 4),
            _ => (Piece::Number, rest.iter().take_while(word).count()),
        };
        self.at += len;
        let raw = &rest[..len];
        Ok(Token { at, raw, kind })
    }

    /// Whether a token of this kind comes next; takes it then.
    fn skip_if(&mut self, wanted: fn(&Piece) -> bool) -> Result<bool, String> {
        let before = self.at;
        let found = wanted(&self.token()?.kind);
        if !found {
            self.at = before;
        }
        Ok(found)
    }

    fn message(
        &mut self,
        shape: &shape::Message,
        wire: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err("proto: exceeded max recursion depth".into());
        }
        let open = self.token()?;
        if !matches!(open.kind, Piece::Open) {
            return Err(self.unexpected(&open));
        }
        let mut seen = BTreeSet::new();
        let mut chosen = BTreeSet::new();
        loop {
            let token = self.token()?;
            let Piece::Text(name) = &token.kind else {
                return Ok(());
            };
            let named = |field: &&Field| field.json_name == name || field.name == name;
            let Some(field) = shape.fields.iter().find(named) else {
                if self.strict {
                    return Err(self.unknown_field(&token, shape));
                }
                self.skip()?;
                continue;
            };
            if !seen.insert(field.number) {
                return Err(self.fault(token.at, &format!("duplicate field {}", lossy(token.raw))));
            }
            if self.skip_if(|kind| matches!(kind, Piece::Null))? {
                continue;
            }
            if let Some(choice) = field.choice
                && !chosen.insert(choice)
            {
                let name = lossy(token.raw);
                let what = format!("error parsing {name}, oneof {choice} is already set");
                return Err(self.fault(token.at, &what));
            }
            self.field(field, wire, depth)?;
        }
    }

    fn field(&mut self, field: &Field, wire: &mut Vec<u8>, depth: usize) -> Result<(), String> {
        if let Kind::Map(entry) = field.kind {
            return self.map(field, entry, wire, depth);
        }
        if !field.list {
            return self.value(field, wire, depth);
        }
        let open = self.token()?;
        if !matches!(open.kind, Piece::OpenList) {
            return Err(self.unexpected(&open));
        }
        while !self.skip_if(|kind| matches!(kind, Piece::CloseList))? {
            self.value(field, wire, depth)?;
        }
        Ok(())
    }

    fn map(
        &mut self,
        field: &Field,
        entry: &shape::Message,
        wire: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), String> {
        let [key, value] = entry.fields else {
            panic!("{}: an entry has a key and a value", entry.name)
        };
        let open = self.token()?;
        if !matches!(open.kind, Piece::Open) {
            return Err(self.unexpected(&open));
        }
        let mut seen = BTreeSet::new();
        loop {
            let token = self.token()?;
            let Piece::Text(name) = &token.kind else {
                return Ok(());
            };
            let mut pair = Vec::new();
            if let Written::Wrong = write(key, &token, &mut pair) {
                let (kind, raw) = (kind_name(&key.kind), lossy(token.raw));
                let what = format!("invalid value for {kind} key: {raw}");
                return Err(self.fault(token.at, &what));
            }
            if !seen.insert(name.clone()) {
                let what = format!("duplicate map key {}", lossy(token.raw));
                return Err(self.fault(token.at, &what));
            }
            self.value(value, &mut pair, depth)?;
            put_bytes(field.number, &pair, wire);
        }
    }

    fn value(&mut self, field: &Field, wire: &mut Vec<u8>, depth: usize) -> Result<(), String> {
        if let Kind::Message(shape) = field.kind {
            let mut inner = Vec::new();
            self.message(shape, &mut inner, depth + 1)?;
            put_bytes(field.number, &inner, wire);
            return Ok(());
        }
        let token = self.token()?;
        let fits = match write(field, &token, wire) {
            Written::Value => true,
            Written::Nothing => !self.strict,
            Written::Wrong => false,
        };
        if fits {
            return Ok(());
        }
        let (kind, name) = (kind_name(&field.kind), field.json_name);
        let raw = lossy(token.raw);
        let mut what = format!("invalid value for {kind} field {name}: {raw}");
        if let Kind::Enum(names) = field.kind
            && self.strict
        {
            what += &format!(
                "; it is one of {}",
                list(names.iter().map(|(name, _)| *name))
            );
        }
        Err(self.fault(token.at, &what))
    }

    fn unknown_field(&self, token: &Token<'_>, shape: &shape::Message) -> String {
        let known = match shape.fields {
            [] => "nothing".to_owned(),
            fields => list(fields.iter().map(|field| field.name)),
        };
        let (raw, message) = (lossy(token.raw), shape.name);
        self.fault(
            token.at,
            &format!("unknown field {raw}; {message} has {known}"),
        )
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), String> {
        let mut open = 0usize;
        loop {
            match self.token()?.kind {
                Piece::Open | Piece::OpenList => open += 1,
                Piece::Close | Piece::CloseList => open -= 1,
                _ => {}
            }
            if open == 0 {
                return Ok(());
            }
        }
    }

    fn unexpected(&self, token: &Token<'_>) -> String {
        let what = format!("unexpected token {}", lossy(token.raw));
        self.syntax(token.at, &what)
    }

    fn syntax(&self, at: usize, what: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto: syntax error (line {line}:{column}): {what}")
    }

    fn fault(&self, at: usize, what: &str) -> String {
        let (line, column) = self.position(at);
        format!("proto: (line {line}:{column}): {what}")
    }

    /// Line and character, from 1.
    fn position(&self, at: usize) -> (usize, usize) {
        let before = &self.text[..at];
        let lines = before.split(|&byte| byte == b'\n');
        let last = lines.clone().next_back().unwrap_or_default();
        (lines.count(), lossy(last).chars().count() + 1)
    }
}

/// Writes a value that is one token.
fn write(field: &Field, token: &Token<'_>, wire: &mut Vec<u8>) -> Written {
    let whole = |min: i128, max: i128| {
        let number = match &token.kind {
            Piece::Number => number::whole(token.raw),
            Piece::Text(text) => number::whole(text.as_bytes()),
            _ => None,
        };
        number.filter(|number| (min..=max).contains(number))
    };
    let signed = |min: i64, max: i64| whole(min.into(), max.into()).map(|number| number as i64);
    let unsigned = |max: u64| whole(0, max.into()).map(|number| number as u64);
    let zigzag = |number: i64| ((number << 1) ^ (number >> 63)) as u64;
    let varint = match &field.kind {
        Kind::Bool => match token.kind {
            Piece::True => Some(1),
            Piece::False => Some(0),
            _ => None,
        },
        Kind::Int32 => signed(i32::MIN.into(), i32::MAX.into()).map(|number| number as u64),
        Kind::Int64 => signed(i64::MIN, i64::MAX).map(|number| number as u64),
        Kind::Sint32 => signed(i32::MIN.into(), i32::MAX.into()).map(zigzag),
        Kind::Sint64 => signed(i64::MIN, i64::MAX).map(zigzag),
        Kind::Uint32 => unsigned(u32::MAX.into()),
        Kind::Uint64 => unsigned(u64::MAX),
        Kind::Enum(names) => match &token.kind {
            Piece::Text(text) => match names.iter().find(|(name, _)| name == text) {
                Some((_, number)) => Some(i64::from(*number) as u64),
                None => return Written::Nothing,
            },
            _ => signed(i32::MIN.into(), i32::MAX.into()).map(|number| number as u64),
        },
        Kind::String | Kind::Bytes => {
            let Piece::Text(text) = &token.kind else {
                return Written::Wrong;
            };
            if matches!(field.kind, Kind::String) {
                put_bytes(field.number, text.as_bytes(), wire);
            } else if let Some(bytes) = text::base64(text) {
                put_bytes(field.number, &bytes, wire);
            } else {
                return Written::Wrong;
            }
            return Written::Value;
        }
        Kind::Message(_) | Kind::Map(_) => return Written::Wrong,
    };
    let Some(varint) = varint else {
        return Written::Wrong;
    };
    encode_key(field.number, WireType::Varint, wire);
    encode_varint(varint, wire);
    Written::Value
}

fn put_bytes(number: u32, bytes: &[u8], wire: &mut Vec<u8>) {
    encode_key(number, WireType::LengthDelimited, wire);
    encode_varint(bytes.len() as u64, wire);
    wire.extend_from_slice(bytes);
}

fn kind_name(kind: &Kind) -> &'static str {
    match kind {
        Kind::Bool => "bool",
        Kind::Int32 => "int32",
        Kind::Int64 => "int64",
        Kind::Sint32 => "sint32",
        Kind::Sint64 => "sint64",
        Kind::Uint32 => "uint32",
        Kind::Uint64 => "uint64",
        Kind::String => "string",
        Kind::Bytes => "bytes",
        Kind::Enum(_) => "enum",
        Kind::Message(_) | Kind::Map(_) => "message",
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}

fn lossy(raw: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(raw)
}
