//! Writes down which fields messages have, for whoever reads their JSON form.

use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MessageDescriptor};
use std::error::Error;
use std::fmt::Write;

/// Statics of all messages, and a list of them in the order of their names.
pub fn table(files: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let pool = DescriptorPool::from_file_descriptor_set(files.clone())?;
    let mut messages: Vec<_> = pool.all_messages().collect();
    messages.sort_by(|a, b| a.full_name().cmp(b.full_name()));
    let mut table = String::new();
    for message in &messages {
        let place = place(message);
        let name = message.full_name();
        write!(
            table,
            "static {place}: Message = Message {{ name: {name:?}, fields: &["
        )?;
        for field in message.fields() {
            table.push_str(&of(&field)?);
        }
        table.push_str("] };\n");
    }
    table.push_str("static MESSAGES: &[&Message] = &[");
    for message in &messages {
        write!(table, "&{}, ", place(message))?;
    }
    table.push_str("];\n");
    Ok(table)
}

/// The name of a message's static.
fn place(message: &MessageDescriptor) -> String {
    message.full_name().replace('.', "_").to_uppercase()
}

fn of(field: &FieldDescriptor) -> Result<String, Box<dyn Error>> {
    let kind = match field.kind() {
        Kind::Bool => "Bool".into(),
        Kind::Int32 => "Int32".into(),
        Kind::Int64 => "Int64".into(),
        Kind::Sint32 => "Sint32".into(),
        Kind::Sint64 => "Sint64".into(),
        Kind::Uint32 => "Uint32".into(),
        Kind::Uint64 => "Uint64".into(),
        Kind::String => "String".into(),
        Kind::Bytes => "Bytes".into(),
        Kind::Enum(names) => {
            let values = names.values();
            let values: Vec<_> = values
                .map(|value| (value.name().to_owned(), value.number()))
                .collect();
            format!("Enum(&{values:?})")
        }
        Kind::Message(entry) if field.is_map() => format!("Map(&{})", place(&entry)),
        Kind::Message(message) => format!("Message(&{})", place(&message)),
        kind => return Err(format!("{}: no reader for {kind:?}", field.full_name()).into()),
    };
    // An optional field is a choice of its own, which it shares with nobody.
    let choice = field
        .containing_oneof()
        .filter(|choice| !choice.is_synthetic());
    let choice = choice.map(|choice| choice.full_name().to_owned());
    Ok(format!(
        "Field {{ name: {:?}, json_name: {:?}, number: {}, kind: Kind::{kind}, list: {}, choice: {choice:?} }}, ",
        field.name(),
        field.json_name(),
        field.number(),
        field.is_list(),
    ))
}
