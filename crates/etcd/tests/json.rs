//! Requests in JSON: what is read, and in which words the rest is refused. The words are those of etcd 3.6.7.

use prost::{Message, Name};
use proto::etcdserverpb::{
    AlarmRequest, AuthUserAddRequest, LeaseGrantRequest, MemberAddRequest, RangeRequest,
    TxnRequest, WatchRequest, watch_request::RequestUnion,
};
use proto::synod::v1::{AcquireRequest, JoinRequest, ReleaseRequest};
use std::fmt::Debug;
use synod_etcd::json::read;

fn refused<M: Message + Name + Default + Debug>(body: impl AsRef<[u8]>) -> String {
    match read::<M>(body.as_ref()) {
        Err(text) => text,
        Ok(read) => panic!("it was read: {read:?}"),
    }
}

fn whole<M: Message + Name + Default + Debug>(body: &str) -> M {
    match read(body.as_bytes()) {
        Ok(Some((message, _))) => message,
        other => panic!("{body}: {other:?}"),
    }
}

#[test]
fn what_go_reads_is_read() {
    let expected = RangeRequest {
        key: "foo".into(),
        limit: 3,
        ..Default::default()
    };
    for body in [
        r#"{"key":"Zm9v","limit":"3"}"#,
        r#"{"key":"Zm9v\n","limit":"3e0"}"#,
        r#"{"key":"Zm9v","limit":3,"unknown":[1,{"a":null}]}"#,
        r#"{"key":"Zm9v","limit":300e-2}"#,
        r#"{"key":"Zm9v","limit":3,"sort_order":"SIDEWAYS","sortTarget":"1"}"#,
        r#"{"key":"\u005am9v","limit":3.0,"revision":null,"rangeEnd":null} and so on"#,
        r#"{"KEY":5,"[x.y]":{},"key":"Zm9v","limit":3}}"#,
    ] {
        assert_eq!(whole::<RangeRequest>(body), expected, "{body}");
    }
    for nothing in ["", " \n\t\r "] {
        let read = read::<RangeRequest>(nothing.as_bytes());
        assert_eq!(read, Ok(None), "{nothing:?}");
    }
    // A number that is not known is for the call to refuse.
    let unknown = r#"{"key":"Zm9v","sort_order":77,"sort_target":-1}"#;
    let unknown = whole::<RangeRequest>(unknown);
    assert_eq!((unknown.sort_order, unknown.sort_target), (77, -1));
    for key in ["Zm8", "Zm8=", "Zm9"] {
        let body = format!(r#"{{"key":"{key}"}}"#);
        assert_eq!(whole::<RangeRequest>(&body).key, "fo", "{body}");
    }
    let url: RangeRequest = whole(r#"{"key":"_-8"}"#);
    assert_eq!(url.key, [0xff, 0xef].as_slice());
    let lowest = whole::<RangeRequest>(r#"{"limit":-9223372036854775808}"#);
    assert_eq!(lowest.limit, i64::MIN);
    let highest = whole::<AlarmRequest>(r#"{"memberID":18446744073709551615}"#);
    assert_eq!(highest.member_id, u64::MAX);
    let name = whole::<AuthUserAddRequest>(r#"{"name":"\ud83d\ude00\u00e9\n\/"}"#).name;
    assert_eq!(name, "\u{1f600}\u{e9}\n/");
}

#[test]
fn messages_follow_each_other() {
    let text = br#" {"create_request":{"key":"Zm9v","filters":["NOPUT","NOTHING",9]}}{"progressRequest":{}} x"#;
    let (first, taken) = read::<WatchRequest>(text).unwrap().unwrap();
    let Some(RequestUnion::CreateRequest(create)) = first.request_union else {
        panic!("{first:?}")
    };
    assert_eq!(create.filters, [0, 9]);
    let (second, more) = read::<WatchRequest>(&text[taken..]).unwrap().unwrap();
    let union = second.request_union;
    assert!(matches!(union, Some(RequestUnion::ProgressRequest(_))));
    let rest = refused::<WatchRequest>(&text[taken + more..]);
    assert_eq!(rest, "invalid character 'x' looking for beginning of value");
}

#[test]
fn what_is_no_json_is_refused_in_the_words_of_go() {
    for (body, text) in [
        ("{", "unexpected EOF"),
        (r#"{"key"#, "unexpected EOF"),
        (r#"{"key":"#, "unexpected EOF"),
        (r#"{"key":"Zm9v","#, "unexpected EOF"),
        (r#"{"key":nul"#, "unexpected EOF"),
        (
            r#"{"key":"Zm9v",}"#,
            "invalid character '}' looking for beginning of object key string",
        ),
        (
            r#"{"key":"Zm9v"]"#,
            "invalid character ']' after object key:value pair",
        ),
        (
            r#"{key:"Zm9v"}"#,
            "invalid character 'k' looking for beginning of object key string",
        ),
        (
            "{'key':1}",
            r"invalid character '\'' looking for beginning of object key string",
        ),
        (
            r#"{"key" "Zm9v"}"#,
            "invalid character '\"' after object key",
        ),
        (
            r#"{"key":[1 2]}"#,
            "invalid character '2' after array element",
        ),
        (
            r#"{"key":tru}"#,
            "invalid character '}' in literal true (expecting 'e')",
        ),
        (
            r#"{"key":NaN}"#,
            "invalid character 'N' looking for beginning of value",
        ),
        (
            r#"{"limit":01}"#,
            "invalid character '1' after object key:value pair",
        ),
        (
            r#"{"limit":1.}"#,
            "invalid character '}' after decimal point in numeric literal",
        ),
        (r#"{"limit":-}"#, "invalid character '}' in numeric literal"),
        (
            r#"{"limit":1e+}"#,
            "invalid character '}' in exponent of numeric literal",
        ),
        (
            "{\"key\":\"a\tb\"}",
            r"invalid character '\t' in string literal",
        ),
        (
            r#"{"key":"a\xb"}"#,
            "invalid character 'x' in string escape code",
        ),
        (
            r#"{"key":"\u12"}"#,
            r#"invalid character '"' in \u hexadecimal character escape"#,
        ),
        (
            "hello",
            "invalid character 'h' looking for beginning of value",
        ),
        (
            "// c\n{}",
            "invalid character '/' looking for beginning of value",
        ),
    ] {
        assert_eq!(refused::<RangeRequest>(body), text, "{body}");
    }
    let bytes = [
        (0xff, "'\u{ff}'"),
        (0x80, r"'\u0080'"),
        (1, r"'\x01'"),
        (b'\\', r"'\\'"),
    ];
    for (byte, quoted) in bytes {
        let text = format!("invalid character {quoted} looking for beginning of value");
        assert_eq!(refused::<RangeRequest>([byte]), text);
    }
    let deep = |depth: usize| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
    assert!(read::<RangeRequest>(deep(9999).as_bytes()).is_ok());
    let text = "invalid character '[' exceeded max depth";
    assert_eq!(refused::<RangeRequest>(deep(10_000)), text);
}

#[test]
fn what_is_no_such_message_is_refused_in_the_words_of_go() {
    let range = |body: &str| (body.to_owned(), refused::<RangeRequest>(body));
    let field = |rest: &str| format!(r#"{{"key":"Zm9v",{rest}}}"#);
    for ((body, refused), text) in [
        (range("[]"), "syntax error (line 1:1): unexpected token ["),
        (
            range("null"),
            "syntax error (line 1:1): unexpected token null",
        ),
        (
            range(r#""x""#),
            r#"syntax error (line 1:1): unexpected token "x""#,
        ),
        (
            range(r#"{"key":5}"#),
            "(line 1:8): invalid value for bytes field key: 5",
        ),
        (
            range(r#"{"key":{}}"#),
            "(line 1:8): invalid value for bytes field key: {",
        ),
        (
            range(r#"{"key":"!!!"}"#),
            r#"(line 1:8): invalid value for bytes field key: "!!!""#,
        ),
        (
            range(r#"{"key":"Zm9=x"}"#),
            r#"(line 1:8): invalid value for bytes field key: "Zm9=x""#,
        ),
        (
            range(r#"{"key":"Z"}"#),
            r#"(line 1:8): invalid value for bytes field key: "Z""#,
        ),
        (
            range(&field(r#""limit":"x""#)),
            r#"(line 1:23): invalid value for int64 field limit: "x""#,
        ),
        (
            range(&field(r#""limit":1.5"#)),
            "(line 1:23): invalid value for int64 field limit: 1.5",
        ),
        (
            range(&field(r#""limit":" 1""#)),
            r#"(line 1:23): invalid value for int64 field limit: " 1""#,
        ),
        (
            range(&field(r#""limit":"+1""#)),
            r#"(line 1:23): invalid value for int64 field limit: "+1""#,
        ),
        (
            range(&field(r#""limit":"01""#)),
            r#"(line 1:23): invalid value for int64 field limit: "01""#,
        ),
        (
            range(&field(r#""limit":9223372036854775808"#)),
            "(line 1:23): invalid value for int64 field limit: 9223372036854775808",
        ),
        (
            range(&field(r#""limit":1e400"#)),
            "(line 1:23): invalid value for int64 field limit: 1e400",
        ),
        (
            range(&field(r#""limit":[1]"#)),
            "(line 1:23): invalid value for int64 field limit: [",
        ),
        (
            range(&field(r#""keys_only":1"#)),
            "(line 1:27): invalid value for bool field keysOnly: 1",
        ),
        (
            range(&field(r#""sort_order":1.5"#)),
            "(line 1:28): invalid value for enum field sortOrder: 1.5",
        ),
        (
            range(&field(r#""sort_order":3000000000"#)),
            "(line 1:28): invalid value for enum field sortOrder: 3000000000",
        ),
        (
            range(&field(r#""key":"Zm9v""#)),
            r#"(line 1:15): duplicate field "key""#,
        ),
        (
            range(r#"{"key":null,"key":"Zm9v"}"#),
            r#"(line 1:13): duplicate field "key""#,
        ),
        (
            range(r#"{"range_end":"Zm9v","rangeEnd":"Zm9v"}"#),
            r#"(line 1:21): duplicate field "rangeEnd""#,
        ),
        (
            range("\n{\n  \"key\": \"Zm9v\",\n  \"limit\": \"x\"\n}\n"),
            r#"(line 3:12): invalid value for int64 field limit: "x""#,
        ),
        (range(r#"{"key":"\ud800"}"#), "unexpected EOF"),
        (
            range(r#"{"key":"\ud800\u0041"}"#),
            r#"syntax error (line 1:8): invalid escape code "\\u0041" in string"#,
        ),
    ] {
        assert_eq!(refused, format!("proto: {text}"), "{body}");
    }
    let no_utf8 = "proto: syntax error (line 1:8): invalid UTF-8 in string";
    assert_eq!(refused::<RangeRequest>(b"{\"key\":\"\xff\"}"), no_utf8);
    let text = refused::<AuthUserAddRequest>("{\"\u{e9}\":1,\"options\":{\"no_password\":\"\"}}");
    assert_eq!(
        text,
        r#"proto: (line 1:33): invalid value for bool field noPassword: """#
    );
    let text = refused::<AuthUserAddRequest>(r#"{"options":[]}"#);
    assert_eq!(text, "proto: syntax error (line 1:12): unexpected token [");
    let text = refused::<LeaseGrantRequest>(r#"{"TTL":"a"}"#);
    assert_eq!(
        text,
        r#"proto: (line 1:8): invalid value for int64 field TTL: "a""#
    );
    let text = refused::<AlarmRequest>(r#"{"memberID":"-1"}"#);
    assert_eq!(
        text,
        r#"proto: (line 1:13): invalid value for uint64 field memberID: "-1""#
    );
    let text = refused::<AlarmRequest>(r#"{"memberID":18446744073709551616}"#);
    assert_eq!(
        text,
        "proto: (line 1:13): invalid value for uint64 field memberID: 18446744073709551616"
    );
    let text = refused::<MemberAddRequest>(r#"{"peerURLs":[null]}"#);
    assert_eq!(
        text,
        "proto: (line 1:14): invalid value for string field peerURLs: null"
    );
}

#[test]
fn of_a_choice_one_is_given() {
    let both = r#"{"compare":[{"version":"1","value":"eA=="}]}"#;
    let text = r#"proto: (line 1:28): error parsing "value", oneof etcdserverpb.Compare.target_union is already set"#;
    assert_eq!(refused::<TxnRequest>(both), text);
    let one = whole::<TxnRequest>(r#"{"compare":[{"version":"1","value":null}]}"#);
    assert!(one.compare[0].target_union.is_some());
    let text = "proto: syntax error (line 1:13): unexpected token null";
    assert_eq!(refused::<TxnRequest>(r#"{"compare":[null]}"#), text);
    let text = "proto: syntax error (line 1:12): unexpected token {";
    assert_eq!(refused::<TxnRequest>(r#"{"compare":{}}"#), text);
}

#[test]
fn messages_deep_inside_each_other_are_refused() {
    let nested = |depth: usize| {
        let (open, close) = (r#"{"success":[{"request_txn":"#, "}]}");
        format!("{}{{}}{}", open.repeat(depth), close.repeat(depth))
    };
    assert!(read::<TxnRequest>(nested(40).as_bytes()).is_ok());
    let text = "proto: exceeded max recursion depth";
    assert_eq!(refused::<TxnRequest>(nested(60)), text);
    assert_eq!(refused::<TxnRequest>(nested(3000)), text);
}

/// A misspelt guard would guard nothing, a misspelt mode mean the first one.
#[test]
fn what_a_message_of_our_own_does_not_have_is_refused() {
    assert_eq!(
        refused::<AcquireRequest>(r#"{"name":"a","mode":"frob"}"#),
        "proto: (line 1:20): invalid value for enum field mode: \"frob\"; it is one of EXCLUSIVE, SHARED"
    );
    assert_eq!(
        refused::<ReleaseRequest>("{\"id\":\"1\",\n \"sesion\":\"3\"}"),
        "proto: (line 2:2): unknown field \"sesion\"; synod.v1.ReleaseRequest has change, session, id"
    );
    let nested = refused::<AcquireRequest>(r#"{"change":{"guard":[]},"name":"a"}"#);
    assert!(
        nested.contains("unknown field \"guard\"; synod.v1.Change has "),
        "{nested}"
    );
}

#[test]
fn a_map_has_each_name_once() {
    let body = r#"{"name":"g","attributes":{"zone":"a","b":""}}"#;
    let join = whole::<JoinRequest>(body);
    assert_eq!(join.attributes["zone"], "a");
    assert_eq!(join.attributes.len(), 2);
    let text = refused::<JoinRequest>(r#"{"attributes":{"a":"1","a":"2"}}"#);
    assert_eq!(text, r#"proto: (line 1:24): duplicate map key "a""#);
    let text = refused::<JoinRequest>(r#"{"attributes":{"a":1}}"#);
    assert_eq!(
        text,
        "proto: (line 1:20): invalid value for string field value: 1"
    );
}
