//! Writes down the JSON form of the native API, from its `.proto` files and their comments, as an OpenAPI document.

use protox::prost_reflect::prost_types::FileDescriptorSet;
use protox::prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, MethodDescriptor,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;

const PACKAGE: &str = "synod.v1";
const PREFIX: &str = "/synod/v1/";

/// Calls that may be asked for by a plain GET, without a message.
const GETS: [&str; 6] = [
    "id/next",
    "id/uuid",
    "lease/list",
    "session/list",
    "lock/list",
    "lock/keys",
];

/// Comments by file and path of what they stand before.
type Comments = BTreeMap<(String, Vec<i32>), String>;

struct Document {
    comments: Comments,
    schemas: Map<String, Value>,
    /// Messages and enumerations to be described still, by full name.
    wanted: Vec<Wanted>,
    seen: BTreeSet<String>,
}

enum Wanted {
    Message(MessageDescriptor),
    Enum(EnumDescriptor),
}

/// The document as text.
pub fn document(files: &FileDescriptorSet) -> Result<String, Box<dyn Error>> {
    let pool = DescriptorPool::from_file_descriptor_set(files.clone())?;
    let mut document = Document {
        comments: comments(files),
        schemas: Map::new(),
        wanted: Vec::new(),
        seen: BTreeSet::new(),
    };
    let mut paths = Map::new();
    for service in pool
        .services()
        .filter(|service| service.package_name() == PACKAGE)
    {
        for method in service.methods() {
            let path = path(service.name(), method.name());
            let post = document.operation(service.name(), &method, true);
            let mut operations = json!({ "post": post });
            if GETS.contains(&path.as_str()) {
                operations["get"] = document.operation(service.name(), &method, false);
            }
            paths.insert(format!("{PREFIX}{path}"), operations);
        }
    }
    while let Some(wanted) = document.wanted.pop() {
        document.describe(&wanted);
    }
    document.schemas.insert("Refusal".into(), refusal());
    let whole = json!({
        "openapi": "3.0.3",
        "info": {
            "title": "Synod",
            "version": "1",
            "description": "The native API as JSON over HTTP: each call is a POST with its message as body. 64-bit numbers are written as text and read in \
                either form; bytes are base64; what is left out has its default, and a name that the message does not have is refused. A call with a stream of answers writes a line for each. Requests may carry the headers authorization \
                (a token), synod-consistency (how fresh), synod-guard (name:token of a lock that must be held, the name percent-coded), synod-client, \
                synod-sequence and synod-acknowledged (a request that must not be applied twice)."
        },
        "paths": paths,
        "components": { "schemas": document.schemas },
    });
    Ok(serde_json::to_string(&whole)?)
}

/// `Lock`, `ForceRelease` becomes `lock/force-release`.
fn path(service: &str, method: &str) -> String {
    let mut path = format!("{}/", service.to_lowercase());
    for (at, letter) in method.char_indices() {
        if at > 0 && letter.is_ascii_uppercase() {
            path.push('-');
        }
        path.push(letter.to_ascii_lowercase());
    }
    path
}

fn comments(files: &FileDescriptorSet) -> Comments {
    let mut comments = Comments::new();
    for file in &files.file {
        for location in file.source_code_info.iter().flat_map(|info| &info.location) {
            let text = location.leading_comments().trim();
            let lines = text.lines().map(str::trim).collect::<Vec<_>>();
            if !text.is_empty() {
                let place = (file.name().to_owned(), location.path.clone());
                comments.insert(place, lines.join(" "));
            }
        }
    }
    comments
}

impl Document {
    fn comment(&self, file: &str, path: &[i32]) -> String {
        let place = (file.to_owned(), path.to_vec());
        self.comments.get(&place).cloned().unwrap_or_default()
    }

    fn operation(&mut self, service: &str, method: &MethodDescriptor, body: bool) -> Value {
        let comment = self.comment(method.parent_file().name(), method.path());
        let lines = method.is_server_streaming();
        let answer = self.message(&method.output());
        let answer = if lines {
            json!({ "type": "object", "properties": { "result": answer, "error": reference("Refusal") } })
        } else {
            answer
        };
        let content = |schema: Value| json!({ "application/json": { "schema": schema } });
        let verb = if body { "" } else { "Get" };
        let mut operation = json!({
            "tags": [service],
            "operationId": format!("{service}{}{verb}", method.name()),
            "description": comment,
            "responses": {
                "200": {
                    "description": if lines { "One line for each answer." } else { "The answer." },
                    "content": content(answer),
                },
                "default": { "description": "Refused.", "content": content(reference("Refusal")) },
            },
        });
        if body {
            let request = self.message(&method.input());
            operation["requestBody"] = json!({ "content": content(request) });
        }
        operation
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        self.want(message.full_name(), Wanted::Message(message.clone()));
        reference(message.full_name())
    }

    fn want(&mut self, name: &str, wanted: Wanted) {
        if self.seen.insert(name.to_owned()) {
            self.wanted.push(wanted);
        }
    }

    fn describe(&mut self, wanted: &Wanted) {
        match wanted {
            Wanted::Message(message) => {
                let mut properties = Map::new();
                for field in message.fields() {
                    let mut schema = self.field(&field);
                    let comment = self.comment(message.parent_file().name(), field.path());
                    // Beside a reference nothing else counts.
                    if !comment.is_empty() && schema.get("$ref").is_some() {
                        schema = json!({ "allOf": [schema] });
                    }
                    if !comment.is_empty() {
                        schema["description"] = comment.into();
                    }
                    properties.insert(field.name().into(), schema);
                }
                let comment = self.comment(message.parent_file().name(), message.path());
                let mut schema = json!({ "type": "object", "properties": properties });
                if !comment.is_empty() {
                    schema["description"] = comment.into();
                }
                self.schemas.insert(message.full_name().into(), schema);
            }
            Wanted::Enum(kind) => {
                let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
                let each = kind.values().map(|value| {
                    let comment = self.comment(kind.parent_file().name(), value.path());
                    format!("{}: {comment}", value.name())
                });
                let comment = each.collect::<Vec<_>>().join("\n");
                let schema = json!({ "type": "string", "enum": names, "description": comment });
                self.schemas.insert(kind.full_name().into(), schema);
            }
        }
    }

    fn field(&mut self, field: &FieldDescriptor) -> Value {
        if field.is_map() {
            let entry = field.kind();
            let value = entry
                .as_message()
                .expect("a map's entry")
                .map_entry_value_field();
            let value = self.kind(&value.kind());
            return json!({ "type": "object", "additionalProperties": value });
        }
        let one = self.kind(&field.kind());
        if field.is_list() {
            json!({ "type": "array", "items": one })
        } else {
            one
        }
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({ "type": "boolean" }),
            Kind::String => json!({ "type": "string" }),
            Kind::Bytes => json!({ "type": "string", "format": "byte" }),
            Kind::Double | Kind::Float => json!({ "type": "number" }),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => {
                json!({ "type": "string", "format": "int64" })
            }
            Kind::Uint64 | Kind::Fixed64 => json!({ "type": "string", "format": "uint64" }),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
                json!({ "type": "integer", "format": "int32" })
            }
            Kind::Uint32 | Kind::Fixed32 => json!({ "type": "integer", "format": "uint32" }),
            Kind::Message(message) => self.message(message),
            Kind::Enum(kind) => {
                self.want(kind.full_name(), Wanted::Enum(kind.clone()));
                reference(kind.full_name())
            }
        }
    }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn refusal() -> Value {
    json!({
        "type": "object",
        "properties": {
            "error": { "type": "string", "description": "What is wrong, for people." },
            "message": { "type": "string", "description": "The same." },
            "code": { "type": "integer", "description": "The gRPC code." },
            "reason": { "type": "string", "description": "What is wrong, for programs: a stable word." },
            "class": {
                "type": "string",
                "enum": ["transient", "unknown", "permanent"],
                "description": "Whether another try can help: nothing happened; it may have happened; it cannot."
            },
            "retry_after_ms": { "type": "integer", "description": "How long to wait at least before it." },
        },
    })
}
