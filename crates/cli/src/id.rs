//! `id next | uuid | segment | counter | decode`.

use crate::output::{Failed, Output, line};
use clap::{Args, Subcommand};
use client::Client;
use proto::synod::v1 as api;
use serde_json::{Map, Value, json};

const EXAMPLES: &str = "\
Examples:
  synod id next                              one id: unique, 64 bits, rising in time
  synod id next --count 100
  synod id decode 7243870423216128           when and by whom it was made
  synod id uuid                              a UUID of version 7
  synod id segment invoices 1000             1000 numbers for this caller alone
  synod id counter visits 1                  add, and print the sum";

#[derive(Subcommand)]
#[command(after_help = EXAMPLES)]
pub(crate) enum IdCommand {
    /// Make ids
    Next(NextArgs),
    /// Make UUIDs of version 7
    Uuid(CountArgs),
    /// Take a range of numbers that nobody else gets
    Segment(SegmentArgs),
    /// Add to a counter and print the sum
    Counter(CounterArgs),
    /// Tell what an id or a UUID says
    Decode(DecodeArgs),
}

#[derive(Args)]
pub(crate) struct CountArgs {
    /// How many
    #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    count: u32,
}

#[derive(Args)]
pub(crate) struct NextArgs {
    #[command(flatten)]
    count: CountArgs,
    /// The pool of worker numbers
    #[arg(long, value_name = "NAME", default_value = "default")]
    pool: String,
    #[command(flatten)]
    layout: LayoutArgs,
}

/// How the bits of an id are divided.
#[derive(Args)]
struct LayoutArgs {
    /// Bits for the worker number
    #[arg(long, value_name = "BITS", default_value_t = 10)]
    worker_bits: u32,
    /// Bits for the number within a millisecond
    #[arg(long, value_name = "BITS", default_value_t = 12)]
    sequence_bits: u32,
    /// Where time begins, in milliseconds since 1970
    #[arg(long, value_name = "MS", default_value_t = 1_577_836_800_000)]
    epoch: u64,
}

impl LayoutArgs {
    fn layout(&self) -> Option<api::Layout> {
        Some(api::Layout {
            worker_bits: self.worker_bits,
            sequence_bits: self.sequence_bits,
            epoch_unix_ms: self.epoch,
        })
    }
}

#[derive(Args)]
pub(crate) struct SegmentArgs {
    /// The sequence; its numbers begin at 1
    #[arg(value_name = "NAME")]
    name: String,
    /// How many numbers
    #[arg(value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
}

#[derive(Args)]
pub(crate) struct CounterArgs {
    /// The counter; it begins at 0
    #[arg(value_name = "NAME")]
    name: String,
    /// What to add; 0 prints the sum
    #[arg(
        value_name = "NUMBER",
        default_value_t = 0,
        allow_negative_numbers = true
    )]
    delta: i64,
}

#[derive(Args)]
pub(crate) struct DecodeArgs {
    /// The id, or the UUID
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    layout: LayoutArgs,
}

pub(crate) async fn run(client: &Client, output: Output, command: IdCommand) -> Result<(), Failed> {
    match command {
        IdCommand::Next(args) => {
            let request = api::NextRequest {
                count: args.count.count,
                layout: args.layout.layout(),
                pool: args.pool,
            };
            let ids = client.id_next(request).await?.message.ids;
            each(output, "ids", ids)
        }
        IdCommand::Uuid(args) => {
            let request = api::UuidRequest { count: args.count };
            let uuids = client.id_uuid(request).await?.message.uuids;
            each(output, "uuids", uuids)
        }
        IdCommand::Segment(args) => segment(client, output, args).await,
        IdCommand::Counter(args) => {
            let request = api::AddRequest {
                change: None,
                name: args.name,
                delta: args.delta,
            };
            let value = client.id_add(request).await?.message.value;
            match output {
                Output::Text => line(value),
                Output::Json => line(json!({ "value": value })),
            }
        }
        IdCommand::Decode(args) => decode(client, output, args).await,
    }
}

fn each<T>(output: Output, name: &str, all: Vec<T>) -> Result<(), Failed>
where
    T: std::fmt::Display + Into<Value>,
{
    match output {
        Output::Text => all.iter().try_for_each(line),
        Output::Json => {
            let all = all.into_iter().map(Into::into).collect();
            line(json!({ name: Value::Array(all) }))
        }
    }
}

async fn segment(client: &Client, output: Output, args: SegmentArgs) -> Result<(), Failed> {
    let request = api::SegmentRequest {
        change: None,
        name: args.name,
        count: args.count,
    };
    let segment = client.id_segment(request).await?.message;
    let last = segment.first + (segment.count - 1);
    match output {
        Output::Text => line(format_args!("{} {last}", segment.first)),
        Output::Json => line(json!({ "first": segment.first, "last": last })),
    }
}

async fn decode(client: &Client, output: Output, args: DecodeArgs) -> Result<(), Failed> {
    let uuid = args.id.contains('-');
    let request = api::DecodeRequest {
        layout: args.layout.layout(),
        id: args.id,
    };
    let says = client.id_decode(request).await?.message;
    let mut map = Map::new();
    map.insert("unix_ms".into(), says.unix_ms.into());
    if uuid {
        map.insert("version".into(), says.uuid_version.into());
    } else {
        map.insert("worker".into(), says.worker.into());
        map.insert("sequence".into(), says.sequence.into());
    }
    match output {
        Output::Json => line(Value::Object(map)),
        Output::Text => map
            .iter()
            .try_for_each(|(name, value)| line(format_args!("{name} {value}"))),
    }
}
