//! `txn`: comparisons and operations in a readable syntax, from flags or stdin. The syntax on stdin is also etcdctl's.

use crate::keys::{DelArgs, GetArgs, PutArgs, del_json, del_text, put_json, put_text, range_json};
use crate::output::{Failed, Output, json_head, key_text_all, line};
use clap::{Args, FromArgMatches};
use client::Client;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use serde_json::{Map, Value};
use std::io::Read;

const EXAMPLES: &str = "\
Comparisons:  mod(KEY), create(KEY), version(KEY), lease(KEY) or value(KEY), then = != < or >, then a number or a text
Operations:   put KEY VALUE, get KEY, del KEY, with the flags of those commands

Examples:
  synod txn --if 'create(lock) = 0' --then 'put lock me' --else 'get lock'
  synod txn --if 'value(a) = \"old value\"' --then 'put a new' --then 'del b --prefix'

Without flags it reads stdin: comparisons, an empty line, operations if they hold, an empty line, operations otherwise. As in etcdctl:
  printf '%s\\n' 'mod(\"lock\") = \"0\"' '' 'put lock me' '' 'get lock' | synod txn";

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TxnArgs {
    /// A comparison that must hold; may be repeated, then all must
    #[arg(long = "if", value_name = "COMPARISON")]
    compares: Vec<String>,
    /// An operation to run if they hold; may be repeated
    #[arg(long = "then", value_name = "OPERATION")]
    success: Vec<String>,
    /// An operation to run otherwise; may be repeated
    #[arg(long = "else", value_name = "OPERATION")]
    failure: Vec<String>,
}

pub(crate) async fn run(client: &Client, output: Output, args: &TxnArgs) -> Result<(), Failed> {
    let request = if args.compares.is_empty() && args.success.is_empty() && args.failure.is_empty()
    {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        let [compares, success, failure] = sections(&text)?;
        request(&compares, &success, &failure)?
    } else {
        request(&args.compares, &args.success, &args.failure)?
    };
    let answer = client.txn(request).await?;
    match output {
        Output::Text => text(&answer.message),
        Output::Json => {
            let mut result = json_head(&answer, answer.message.header.as_ref());
            json(&mut result, &answer.message);
            line(Value::Object(result))
        }
    }
}

/// Cuts stdin at empty lines; sections that are missing are empty.
fn sections(text: &str) -> Result<[Vec<String>; 3], Failed> {
    let mut sections = [Vec::new(), Vec::new(), Vec::new()];
    let mut at = 0;
    for line in text.lines().map(str::trim) {
        if !line.is_empty() {
            let section = sections.get_mut(at);
            section.ok_or_else(|| Failed::Usage(format!("txn: {line:?} comes after the third section; give at most three, parted by empty lines")))?.push(line.to_owned());
        } else if at < 3 {
            at += 1;
        }
    }
    Ok(sections)
}

fn request(
    compares: &[String],
    success: &[String],
    failure: &[String],
) -> Result<pb::TxnRequest, Failed> {
    Ok(pb::TxnRequest {
        compare: compares
            .iter()
            .map(|text| compare(text))
            .collect::<Result<_, _>>()?,
        success: success
            .iter()
            .map(|text| operation(text))
            .collect::<Result<_, _>>()?,
        failure: failure
            .iter()
            .map(|text| operation(text))
            .collect::<Result<_, _>>()?,
    })
}

fn compare(text: &str) -> Result<pb::Compare, Failed> {
    let refuse = |why: &str| {
        Failed::Usage(format!(
            "txn: {text:?}: {why}; write it as mod(KEY) = 0 or value(KEY) = TEXT"
        ))
    };
    let (target, rest) = text
        .split_once('(')
        .ok_or_else(|| refuse("no comparison"))?;
    // The key may hold any character when it is quoted, so the closing bracket is looked for behind it.
    let (key, rest) = word(rest, ")").map_err(|why| refuse(&why))?;
    let rest = rest
        .strip_prefix(')')
        .ok_or_else(|| refuse("no closing bracket"))?
        .trim_start();
    let signs = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ];
    let (rest, result) = signs
        .into_iter()
        .find_map(|(sign, result)| Some((rest.strip_prefix(sign)?, result)))
        .ok_or_else(|| refuse("no =, !=, < or >"))?;
    let (operand, rest) = word(rest.trim_start(), "").map_err(|why| refuse(&why))?;
    if !rest.trim().is_empty() {
        return Err(refuse("more than one comparison"));
    }
    let number = || {
        operand
            .parse::<i64>()
            .map_err(|_| refuse(&format!("{operand:?} is no number")))
    };
    let (target, union) = match target.trim() {
        "version" | "ver" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" | "c" | "create_revision" => (
            CompareTarget::Create,
            TargetUnion::CreateRevision(number()?),
        ),
        "mod" | "m" | "mod_revision" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "value" | "val" => (
            CompareTarget::Value,
            TargetUnion::Value(operand.into_bytes().into()),
        ),
        "lease" => (
            CompareTarget::Lease,
            TargetUnion::Lease(crate::output::lease_id(&operand).map_err(|why| refuse(&why))?),
        ),
        other => return Err(refuse(&format!("{other:?} cannot be compared"))),
    };
    let (result, target) = (result as i32, target as i32);
    Ok(pb::Compare {
        result,
        target,
        key: key.into_bytes().into(),
        target_union: Some(union),
        ..pb::Compare::default()
    })
}

fn operation(text: &str) -> Result<pb::RequestOp, Failed> {
    let refuse = |why: &str| {
        Failed::Usage(format!(
            "txn: {text:?}: {why}; write put KEY VALUE, get KEY or del KEY"
        ))
    };
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (next, after) = word(rest, "").map_err(|why| refuse(&why))?;
        words.push(next);
        rest = after.trim_start();
    }
    let Some((verb, arguments)) = words.split_first() else {
        return Err(refuse("no operation"));
    };
    let request = match verb.as_str() {
        // Its value cannot come from stdin, which holds the transaction.
        "put"
            if arguments
                .iter()
                .filter(|word| !word.starts_with("--"))
                .count()
                < 2
                && !arguments.iter().any(|word| word == "--ignore-value") =>
        {
            return Err(refuse("no value"));
        }
        "put" => pb::request_op::Request::RequestPut(parse::<PutArgs>(text, arguments)?.request()?),
        "get" => {
            pb::request_op::Request::RequestRange(parse::<GetArgs>(text, arguments)?.request())
        }
        "del" => pb::request_op::Request::RequestDeleteRange(
            parse::<DelArgs>(text, arguments)?.request(),
        ),
        other => return Err(refuse(&format!("{other:?} is no operation"))),
    };
    Ok(pb::RequestOp {
        request: Some(request),
    })
}

/// Reads the flags of an operation as those of the command of that name.
fn parse<A: Args + FromArgMatches>(text: &str, arguments: &[String]) -> Result<A, Failed> {
    let command = A::augment_args(
        clap::Command::new("operation")
            .no_binary_name(true)
            .disable_help_flag(true),
    );
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| A::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let rendered = error.to_string();
        let why = rendered
            .lines()
            .next()
            .unwrap_or_default()
            .trim_start_matches("error: ")
            .to_owned();
        Failed::Usage(format!("txn: {text:?}: {why}"))
    })
}

/// Takes a word off the front: quoted, or up to a blank or one of `ends`.
fn word<'a>(text: &'a str, ends: &str) -> Result<(String, &'a str), String> {
    let mut word = String::new();
    let mut chars = text.char_indices().peekable();
    let mut quote = None;
    while let Some((at, c)) = chars.next() {
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            ('\\', Some('"')) => match chars.next() {
                Some((_, 'n')) => word.push('\n'),
                Some((_, 't')) => word.push('\t'),
                Some((_, escaped)) => word.push(escaped),
                None => return Err("nothing after the backslash".into()),
            },
            (c, Some(_)) => word.push(c),
            ('"' | '\'', None) => quote = Some(c),
            (c, None) if c.is_whitespace() || ends.contains(c) => return Ok((word, &text[at..])),
            (c, None) => word.push(c),
        }
    }
    if quote.is_some() {
        Err("a quote is not closed".into())
    } else {
        Ok((word, ""))
    }
}

fn text(response: &pb::TxnResponse) -> Result<(), Failed> {
    line(if response.succeeded {
        "SUCCESS"
    } else {
        "FAILURE"
    })?;
    for step in &response.responses {
        line("")?;
        match &step.response {
            Some(pb::response_op::Response::ResponsePut(put)) => put_text(put)?,
            Some(pb::response_op::Response::ResponseRange(range)) => key_text_all(&range.kvs)?,
            Some(pb::response_op::Response::ResponseDeleteRange(del)) => del_text(del)?,
            Some(pb::response_op::Response::ResponseTxn(inner)) => text(inner)?,
            None => {}
        }
    }
    Ok(())
}

fn json(result: &mut Map<String, Value>, response: &pb::TxnResponse) {
    result.insert("succeeded".into(), response.succeeded.into());
    let steps = response.responses.iter().map(|step| {
        let mut map = Map::new();
        let kind = match &step.response {
            Some(pb::response_op::Response::ResponsePut(put)) => {
                put_json(&mut map, put);
                "put"
            }
            Some(pb::response_op::Response::ResponseRange(range)) => {
                range_json(&mut map, range, true);
                "get"
            }
            Some(pb::response_op::Response::ResponseDeleteRange(del)) => {
                del_json(&mut map, del);
                "del"
            }
            Some(pb::response_op::Response::ResponseTxn(inner)) => {
                json(&mut map, inner);
                "txn"
            }
            None => "none",
        };
        map.insert("type".into(), kind.into());
        Value::Object(map)
    });
    result.insert("responses".into(), steps.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_read_in_our_form_and_in_that_of_etcdctl() {
        let ours = compare("mod(key) > 0").expect("reads");
        assert_eq!(ours, compare(r#"m("key") > "0""#).expect("reads"));
        assert_eq!(
            (ours.result, ours.target),
            (CompareResult::Greater as i32, CompareTarget::Mod as i32)
        );
        assert_eq!(ours.target_union, Some(TargetUnion::ModRevision(0)));
        let quoted = compare(r#"value("a (b)") != "old \"value\"""#).expect("reads");
        assert_eq!(&quoted.key[..], b"a (b)");
        assert_eq!(
            quoted.target_union,
            Some(TargetUnion::Value(r#"old "value""#.into()))
        );
    }

    #[test]
    fn wrong_comparisons_are_refused_with_the_form() {
        for text in [
            "",
            "mod",
            "mod(key",
            "mod(key) 3",
            "mod(key) = x",
            "size(key) = 1",
            "mod(key) = 1 2",
            "mod(\"key) = 1",
        ] {
            let Err(Failed::Usage(why)) = compare(text) else {
                panic!("{text:?} was taken")
            };
            assert!(why.contains("mod(KEY) = 0"), "{why}");
        }
    }

    #[test]
    fn operations_take_the_flags_of_their_commands() {
        let request = request(
            &["version(a) = 1".into()],
            &["put a 'b c' --prev-kv".into(), "get a --prefix".into()],
            &["del a b".into()],
        );
        let request = request.expect("reads");
        let Some(pb::request_op::Request::RequestPut(put)) = &request.success[0].request else {
            panic!("a put")
        };
        assert_eq!((&put.value[..], put.prev_kv), (&b"b c"[..], true));
        let Some(pb::request_op::Request::RequestRange(get)) = &request.success[1].request else {
            panic!("a get")
        };
        assert_eq!(&get.range_end[..], b"b");
        let Some(pb::request_op::Request::RequestDeleteRange(del)) = &request.failure[0].request
        else {
            panic!("a del")
        };
        assert_eq!(&del.range_end[..], b"b");
        for text in ["", "put a", "get", "move a b", "get a --loud"] {
            assert!(matches!(operation(text), Err(Failed::Usage(_))), "{text:?}");
        }
    }

    #[test]
    fn stdin_has_three_sections_and_empty_ones_stay_empty() {
        let [compares, success, failure] =
            sections("mod(a) = 0\n\nput a b\n\nget a\n").expect("reads");
        assert_eq!((compares.len(), success.len(), failure.len()), (1, 1, 1));
        let [compares, success, failure] = sections("\nput a b\n").expect("reads");
        assert_eq!((compares.len(), success.len(), failure.len()), (0, 1, 0));
        assert!(sections("a\n\nb\n\nc\n\nd\n").is_err());
    }
}
