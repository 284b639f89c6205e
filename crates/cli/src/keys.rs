//! `put`, `get`, `del`, `compact`.

use crate::output::{
    Failed, Output, bytes_line, json_head, json_key, lease_id, line, prefix_end, put_bytes,
};
use clap::{Args, ValueEnum};
use client::{Answer, Client};
use proto::etcdserverpb as pb;
use proto::mvccpb::KeyValue;
use serde_json::{Map, Value};
use std::io::Read;

/// Which keys a command is about.
#[derive(Args, Clone, Debug)]
pub(crate) struct RangeArgs {
    /// The key, or the first one of a range
    pub(crate) key: String,
    /// The first key after the range
    #[arg(value_name = "RANGE_END", conflicts_with_all = ["prefix", "from_key", "range_end_flag"])]
    pub(crate) range_end: Option<String>,
    /// The first key after the range
    #[arg(long = "range-end", value_name = "KEY", conflicts_with_all = ["prefix", "from_key"])]
    pub(crate) range_end_flag: Option<String>,
    /// All keys that begin with KEY
    #[arg(long, conflicts_with = "from_key")]
    pub(crate) prefix: bool,
    /// All keys from KEY on
    #[arg(long)]
    pub(crate) from_key: bool,
}

impl RangeArgs {
    /// First key and end of the range, as the API wants them.
    pub(crate) fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key.as_bytes().to_vec();
        let end = if self.prefix {
            prefix_end(&key)
        } else if self.from_key {
            vec![0]
        } else {
            self.range_end
                .as_ref()
                .or(self.range_end_flag.as_ref())
                .map_or_else(Vec::new, |end| end.as_bytes().to_vec())
        };
        // "Every key" begins at the first one there can be.
        let key = if key.is_empty() && !end.is_empty() {
            vec![0]
        } else {
            key
        };
        (key, end)
    }
}

const PUT_EXAMPLES: &str = "\
Examples:
  synod put hello world
  synod put config/a --lease 1f33 < file     the value comes from stdin when it is not given
  synod put counter 2 --prev                 prints what was there";

#[derive(Args, Clone, Debug)]
#[command(after_help = PUT_EXAMPLES)]
pub(crate) struct PutArgs {
    /// The key
    key: String,
    /// Its new value; read from stdin when left out
    #[arg(allow_hyphen_values = true)]
    value: Option<String>,
    /// Lease to attach it to, as `lease grant` printed it
    #[arg(long, value_name = "ID", value_parser = lease_id)]
    lease: Option<i64>,
    /// Print what was there before
    #[arg(long, alias = "prev-kv")]
    prev: bool,
    /// Keep the present value and change only the lease
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    /// Keep the present lease
    #[arg(long, conflicts_with = "lease")]
    ignore_lease: bool,
}

impl PutArgs {
    pub(crate) fn request(self) -> Result<pb::PutRequest, Failed> {
        let value = match self.value {
            Some(value) => value.into_bytes(),
            None if self.ignore_value => Vec::new(),
            None => {
                let mut value = Vec::new();
                std::io::stdin().read_to_end(&mut value)?;
                value
            }
        };
        Ok(pb::PutRequest {
            key: self.key.into_bytes().into(),
            value: value.into(),
            lease: self.lease.unwrap_or(0),
            prev_kv: self.prev,
            ignore_value: self.ignore_value,
            ignore_lease: self.ignore_lease,
        })
    }
}

pub(crate) async fn put(client: &Client, output: Output, args: PutArgs) -> Result<(), Failed> {
    let answer = client.put(args.request()?).await?;
    match output {
        Output::Text => put_text(&answer.message),
        Output::Json => {
            let mut result = json_head(&answer, answer.message.header.as_ref());
            put_json(&mut result, &answer.message);
            line(Value::Object(result))
        }
    }
}

pub(crate) fn put_text(response: &pb::PutResponse) -> Result<(), Failed> {
    line("OK")?;
    response.prev_kv.as_ref().map_or(Ok(()), key_text)
}

pub(crate) fn put_json(result: &mut Map<String, Value>, response: &pb::PutResponse) {
    if let Some(prev) = &response.prev_kv {
        result.insert("prev".into(), json_key(prev, true));
    }
}

/// What keys may be sorted by.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SortBy {
    Key,
    Version,
    Create,
    Mod,
    Value,
}

const GET_EXAMPLES: &str = "\
Examples:
  synod get hello                            key and value, each on a line
  synod get --prefix config/ --limit 10
  synod get a --range-end b --keys-only
  synod get hello --revision 7               as it was at revision 7
  synod get hello --consistency local        from the member asked, without asking the others
  synod get hello --consistency bounded=2s   not older than 2 s
  synod get hello --consistency at-least=STAMP
                                             not older than an earlier answer (--stamp prints it)";

#[derive(Args, Clone, Debug)]
#[command(after_help = GET_EXAMPLES)]
pub(crate) struct GetArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// As of this revision [default: the newest]
    #[arg(long, alias = "rev", value_name = "REVISION")]
    revision: Option<i64>,
    /// Keys at most [default: all]
    #[arg(long, value_name = "COUNT")]
    limit: Option<i64>,
    /// Leave the values out
    #[arg(long)]
    keys_only: bool,
    /// Leave the keys out
    #[arg(long, alias = "print-value-only", conflicts_with = "keys_only")]
    value_only: bool,
    /// Only say how many keys there are
    #[arg(long, conflicts_with_all = ["keys_only", "value_only"])]
    count_only: bool,
    /// What to sort by
    #[arg(long, value_enum, value_name = "FIELD")]
    sort_by: Option<SortBy>,
    /// Sort from high to low
    #[arg(long)]
    descending: bool,
    /// How fresh the answer must be: linearizable, local, bounded=DURATION or at-least=STAMP
    #[arg(long, value_name = "LEVEL", default_value = "linearizable", value_parser = consistency)]
    consistency: String,
    /// Print the answer's stamp to stderr, for a later --consistency at-least=STAMP
    #[arg(long)]
    stamp: bool,
}

fn consistency(text: &str) -> Result<String, String> {
    let known = match text.split_once('=') {
        None => matches!(text, "linearizable" | "local"),
        Some(("bounded", duration)) => server::config::parse_duration(duration).is_some(),
        Some(("at-least", stamp)) => !stamp.is_empty(),
        Some(_) => false,
    };
    if known {
        Ok(text.to_owned())
    } else {
        Err("one of linearizable, local, bounded=500ms, at-least=STAMP".into())
    }
}

impl GetArgs {
    pub(crate) fn request(&self) -> pb::RangeRequest {
        let (key, range_end) = self.range.bounds();
        let sort_target = self.sort_by.map_or(0, |by| by as i32);
        let sort_order = match (self.sort_by, self.descending) {
            (_, true) => pb::range_request::SortOrder::Descend,
            (Some(_), false) => pb::range_request::SortOrder::Ascend,
            (None, false) => pb::range_request::SortOrder::None,
        };
        pb::RangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            limit: self.limit.unwrap_or(0),
            revision: self.revision.unwrap_or(0),
            sort_order: sort_order as i32,
            sort_target,
            keys_only: self.keys_only,
            count_only: self.count_only,
            ..pb::RangeRequest::default()
        }
    }
}

pub(crate) async fn get(client: &Client, output: Output, args: GetArgs) -> Result<(), Failed> {
    let client = client.clone().with_consistency(&args.consistency)?;
    let answer: Answer<pb::RangeResponse> = client.range(args.request()).await?;
    let response = &answer.message;
    match output {
        Output::Json => {
            let mut result = json_head(&answer, response.header.as_ref());
            range_json(&mut result, response, !args.keys_only);
            line(Value::Object(result))?;
        }
        Output::Text if args.count_only => line(response.count)?,
        Output::Text => {
            for kv in &response.kvs {
                if !args.value_only {
                    bytes_line(&kv.key)?;
                }
                if !args.keys_only {
                    bytes_line(&kv.value)?;
                }
            }
            if response.kvs.is_empty() {
                eprintln!("no such key");
            } else if response.more {
                eprintln!(
                    "{} of {} keys shown; raise --limit for more",
                    response.kvs.len(),
                    response.count
                );
            }
        }
    }
    if args.stamp
        && let Some(stamp) = &answer.stamp
    {
        eprintln!("stamp {stamp}");
    }
    Ok(())
}

pub(crate) fn key_text(kv: &KeyValue) -> Result<(), Failed> {
    bytes_line(&kv.key)?;
    bytes_line(&kv.value)
}

pub(crate) fn range_json(
    result: &mut Map<String, Value>,
    response: &pb::RangeResponse,
    values: bool,
) {
    result.insert("count".into(), response.count.into());
    result.insert("more".into(), response.more.into());
    result.insert(
        "kvs".into(),
        response.kvs.iter().map(|kv| json_key(kv, values)).collect(),
    );
}

const DEL_EXAMPLES: &str = "\
Examples:
  synod del hello                            prints how many keys were removed
  synod del --prefix config/ --prev          prints what was there";

#[derive(Args, Clone, Debug)]
#[command(after_help = DEL_EXAMPLES)]
pub(crate) struct DelArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Print what was there before
    #[arg(long, alias = "prev-kv")]
    prev: bool,
}

impl DelArgs {
    pub(crate) fn request(&self) -> pb::DeleteRangeRequest {
        let (key, range_end) = self.range.bounds();
        pb::DeleteRangeRequest {
            key: key.into(),
            range_end: range_end.into(),
            prev_kv: self.prev,
        }
    }
}

pub(crate) async fn del(client: &Client, output: Output, args: DelArgs) -> Result<(), Failed> {
    let answer = client.delete_range(args.request()).await?;
    match output {
        Output::Text => del_text(&answer.message),
        Output::Json => {
            let mut result = json_head(&answer, answer.message.header.as_ref());
            del_json(&mut result, &answer.message);
            line(Value::Object(result))
        }
    }
}

pub(crate) fn del_text(response: &pb::DeleteRangeResponse) -> Result<(), Failed> {
    line(response.deleted)?;
    response.prev_kvs.iter().try_for_each(key_text)
}

pub(crate) fn del_json(result: &mut Map<String, Value>, response: &pb::DeleteRangeResponse) {
    result.insert("deleted".into(), response.deleted.into());
    if !response.prev_kvs.is_empty() {
        result.insert(
            "prev".into(),
            response
                .prev_kvs
                .iter()
                .map(|kv| json_key(kv, true))
                .collect(),
        );
    }
}

#[derive(Args)]
pub(crate) struct CompactArgs {
    /// The oldest revision that stays readable
    revision: i64,
}

pub(crate) async fn compact(
    client: &Client,
    output: Output,
    args: &CompactArgs,
) -> Result<(), Failed> {
    let answer = client
        .compact(pb::CompactionRequest {
            revision: args.revision,
            physical: false,
        })
        .await?;
    match output {
        Output::Text => line(format_args!("compacted revision {}", args.revision)),
        Output::Json => line(Value::Object(json_head(
            &answer,
            answer.message.header.as_ref(),
        ))),
    }
}

/// An event in JSON.
pub(crate) fn event_json(event: &proto::mvccpb::Event) -> Value {
    let mut map = Map::new();
    let deleted = event.r#type() == proto::mvccpb::event::EventType::Delete;
    map.insert("type".into(), if deleted { "delete" } else { "put" }.into());
    let kv = event.kv.clone().unwrap_or_default();
    if deleted {
        let mut key = Map::new();
        put_bytes(&mut key, "key", &kv.key);
        key.insert("mod_revision".into(), kv.mod_revision.into());
        map.insert("kv".into(), Value::Object(key));
    } else {
        map.insert("kv".into(), json_key(&kv, true));
    }
    if let Some(prev) = &event.prev_kv {
        map.insert("prev".into(), json_key(prev, true));
    }
    Value::Object(map)
}
