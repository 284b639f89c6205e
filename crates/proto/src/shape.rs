//! Which fields messages have, for whoever reads their JSON form.

/// A message.
#[derive(Debug)]
pub struct Message {
    /// With its package.
    pub name: &'static str,
    /// In the order of the file.
    pub fields: &'static [Field],
}

/// A field of a message.
#[derive(Debug)]
pub struct Field {
    /// As in the file.
    pub name: &'static str,
    /// As JSON has it if nobody says otherwise.
    pub json_name: &'static str,
    /// On the wire.
    pub number: u32,
    /// Of its value, or of each of them.
    pub kind: Kind,
    /// There may be many values.
    pub list: bool,
    /// The choice (`oneof`) that it belongs to.
    pub choice: Option<&'static str>,
}

/// What a value is.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Bool,
    Int32,
    Int64,
    Sint32,
    Sint64,
    Uint32,
    Uint64,
    String,
    Bytes,
    /// One of these names, or any number.
    Enum(&'static [(&'static str, i32)]),
    Message(&'static Message),
    /// Values by names, each pair such a message.
    Map(&'static Message),
}

include!(concat!(env!("OUT_DIR"), "/shapes.rs"));

/// The shape of a message.
///
/// # Panics
/// It is none of this crate's.
pub fn of<M: prost::Name>() -> &'static Message {
    let name = M::full_name();
    let found = MESSAGES.binary_search_by(|message| message.name.cmp(&name));
    let found = found.unwrap_or_else(|_| panic!("{name} is no message of the files"));
    MESSAGES[found]
}
