#!/usr/bin/env python3
"""Sends the same JSON requests to a real etcd and to Synod, both fresh, and compares every answer: status, content type and body.

    conformance/gateway.py http://127.0.0.1:2379 http://127.0.0.1:12379

Only the standard library is needed. Left out of the comparison: ids of clusters, members and leases, terms, sizes and hashes, white space, and the field `error`
that Synod adds to refusals for older clients. Differences that are known and meant are named in KNOWN. Exits with 0 if there is no other.
"""

import base64
import http.client
import json
import re
import sys


def b64(text):
    return base64.b64encode(text.encode()).decode()


FOO, BAR = b64("foo"), b64("bar")

# Path, body, and what else curl would be told.
REQUESTS = [
    ("/v3/kv/put", {"key": FOO, "value": BAR}),
    ("/v3/kv/put", {"value": BAR}),
    ("/v3/kv/put", {"key": FOO, "value": BAR, "lease": 99}),
    ("/v3/kv/put", {"key": FOO, "value": b64("2"), "prev_kv": True}),
    ("/v3/kv/range", {"key": FOO}),
    ("/v3/kv/range", {"key": FOO, "sortOrder": "DESCEND", "limit": 3}),
    ("/v3/kv/range", {"key": FOO, "sort_order": 1, "limit": "3"}),
    ("/v3/kv/range", {"key": FOO, "sort_order": "BAD"}),
    ("/v3/kv/range", {"key": FOO, "sort_order": 77}),
    ("/v3/kv/range", {"key": FOO, "limit": "x"}),
    ("/v3/kv/range", {"key": FOO, "limit": 1.5}),
    ("/v3/kv/range", '{"key":"%s","limit":1e0}' % FOO),
    ("/v3/kv/range", {"key": FOO, "limit": None}),
    ("/v3/kv/range", {"key": FOO, "revision": 999}),
    ("/v3/kv/range", {"key": FOO, "count_only": True}),
    ("/v3/kv/range", {"key": "AA==", "range_end": "AA==", "keys_only": True}),
    ("/v3/kv/range", {"key": "Zm9"}),
    ("/v3/kv/range", {"key": "_-8="}),
    ("/v3/kv/range", {"key": "!!!"}),
    ("/v3/kv/range", {"unknown": 1, "key": FOO}),
    ("/v3/kv/range", ""),
    ("/v3/kv/range", "{}"),
    ("/v3/kv/range", "{"),
    ("/v3/kv/range", "[]"),
    ("/v3/kv/range", "null"),
    ("/v3/kv/range", '{"key":"%s"} trailing' % FOO),
    ("/v3/kv/range", '{"key":"%s","key":"%s"}' % (FOO, FOO)),
    ("GET /v3/kv/range", ""),
    ("PUT /v3/kv/range", {"key": FOO}),
    ("OPTIONS /v3/kv/range", ""),
    ("OPTIONS /v3/nothing", ""),
    ("/v3/nothing", "{}"),
    ("GET /nothing", ""),
    ("/v3beta/kv/range", {"key": FOO}),
    ("/v3alpha/kv/range", {"key": FOO}),
    ("/v3/kv/txn", {"compare": [{"result": "EQUAL", "target": "VALUE", "key": FOO, "value": b64("2")}],
                    "success": [{"requestRange": {"key": FOO}}, {"request_put": {"key": FOO, "value": BAR}},
                                {"request_delete_range": {"key": "eA=="}}, {"request_txn": {}}]}),
    ("/v3/kv/txn", {"compare": [{"target": "CREATE", "key": FOO, "createRevision": "9"}],
                    "failure": [{"requestRange": {"key": FOO}}]}),
    ("/v3/kv/txn", '{"success":[{"requestRange":{"key":"%s"},"request_put":{"key":"%s"}}]}' % (FOO, FOO)),
    ("/v3/kv/txn", {"success": [{}]}),
    ("/v3/kv/deleterange", {"key": FOO, "prev_kv": True}),
    ("/v3/kv/compaction", {"revision": 99999}),
    ("/v3/lease/grant", {"TTL": 50, "ID": 77}),
    ("/v3/lease/grant", {"TTL": 50, "ID": 77}),
    ("/v3/lease/leases", "{}"),
    ("/v3/kv/lease/leases", ""),
    ("/v3/lease/keepalive", {"ID": 77}),
    ("/v3/lease/keepalive", {"ID": 78}),
    ("/v3/lease/keepalive", '{"ID":77}{"ID":77}'),
    ("/v3/lease/revoke", {"ID": 77}),
    ("/v3/lease/revoke", {"ID": 77}),
    ("/v3/kv/lease/timetolive", {"ID": 77}),
    ("/v3/maintenance/alarm", "{}"),
    ("/v3/maintenance/alarm", {"action": "ACTIVATE", "alarm": "NOSPACE", "memberID": 5}),
    ("/v3/kv/put", {"key": FOO, "value": BAR}),
    ("/v3/kv/deleterange", {"key": FOO}),
    ("/v3/maintenance/alarm", "{}"),
    ("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE", "memberID": 5}),
    ("/v3/maintenance/alarm", {"action": "DEACTIVATE", "alarm": "NOSPACE", "memberID": 5}),
    ("/v3/maintenance/alarm", {"action": "ACTIVATE", "alarm": "NONE"}),
    ("/v3/maintenance/status", "{}"),
    ("/v3/maintenance/defragment", "{}"),
    ("/v3/maintenance/hash", "{}"),
    ("/v3/maintenance/hashkv", "{}"),
    ("/v3/maintenance/hashkv", {"revision": 99999}),
    ("/v3/maintenance/transfer-leadership", {"targetID": 99}),
    ("/v3/auth/status", "{}"),
    ("/v3/auth/enable", "{}"),
    ("/v3/auth/user/add", "{}"),
    ("/v3/auth/user/get", {"name": "x"}),
    ("/v3/auth/user/list", "{}"),
    ("/v3/auth/role/get", {"role": "x"}),
    ("/v3/auth/role/list", "{}"),
    ("/v3/auth/authenticate", {"name": "x", "password": "y"}),
    ("/v3/lease/grant", {"TTL": 60, "ID": 5}),
    ("/v3/lock/lock", {"name": b64("lock"), "lease": 5}),
    ("/v3/lock/lock", {"name": b64("lock"), "lease": 99}),
    ("/v3/lock/unlock", {"key": b64("lock/5")}),
    ("/v3/lock/unlock", "{}"),
    ("/v3/election/leader", {"name": b64("el")}),
    ("/v3/election/campaign", {"name": b64("el"), "lease": 99}),
    ("/v3/election/campaign", {"name": b64("el"), "lease": 5, "value": b64("v")}),
    ("/v3/election/leader", {"name": b64("el")}),
    ("/v3/election/observe", {"name": b64("el")}),
    ("/v3/election/proclaim", "{}"),
    ("/v3/election/proclaim", {"leader": {"name": b64("el"), "key": b64("el/1"), "rev": 5, "lease": 5}, "value": "dg=="}),
    ("/v3/election/resign", "{}"),
    ("/v3/election/resign", {"leader": {"name": b64("el"), "key": b64("el/1"), "rev": 5, "lease": 5}}),
    ("/v3/watch", {"create_request": {"key": FOO, "start_revision": 1}}),
    ("/v3/watch", '{"create_request":{"key":"%s","start_revision":"1","filters":["NOPUT"],"watch_id":7}}'
                  '{"create_request":{"key":"%s","watch_id":7}}{"cancel_request":{"watch_id":7}}' % (FOO, FOO)),
    ("Grpc-Timeout=1n /v3/kv/range", {"key": FOO}),
    ("Grpc-Timeout=x /v3/kv/range", {"key": FOO}),
    ("GET /version", ""),
    ("GET /health", ""),
    ("GET /livez", ""),
    ("GET /readyz", ""),
]

# What is malformed, field by field and letter by letter.
MALFORMED = {
    "/v3/kv/range": [
        '{"key":5}', '{"key":true}', '{"key":{}}', '{"key":[]}', '{"key":"!!!"}', '{"key":"Zm9"}', '{"key":"Zm9=x"}', r'{"key":"Zm9v\n"}',
        '{"key":"Zm 9v"}', '{"key":"Z"}', '{"key":"Zm9v","limit":"x"}', '{"key":"Zm9v","limit":1.5}', '{"key":"Zm9v","limit":"1.5"}',
        '{"key":"Zm9v","limit":"1e0"}', '{"key":"Zm9v","limit":" 1"}', '{"key":"Zm9v","limit":""}', '{"key":"Zm9v","limit":true}',
        '{"key":"Zm9v","limit":[1]}', '{"key":"Zm9v","limit":{"a":1}}', '{"key":"Zm9v","limit":9223372036854775808}',
        '{"key":"Zm9v","limit":"9223372036854775808"}', '{"key":"Zm9v","limit":-9223372036854775808}', '{"key":"Zm9v","limit":1e400}',
        '{"key":"Zm9v","limit":10000e-4}', '{"key":"Zm9v","limit":-0}', '{"key":"Zm9v","limit":"-0"}', '{"key":"Zm9v","limit":"+1"}',
        '{"key":"Zm9v","limit":"01"}', '{"key":"Zm9v","limit":01}', '{"key":"Zm9v","keys_only":1}', '{"key":"Zm9v","keys_only":"true"}',
        '{"key":"Zm9v","keys_only":null}', '{"key":"Zm9v","sort_order":77}', '{"key":"Zm9v","sort_order":-1}', '{"key":"Zm9v","sort_order":"BAD"}',
        '{"key":"Zm9v","sort_order":"1"}', '{"key":"Zm9v","sort_order":1.5}', '{"key":"Zm9v","sort_order":1.0}',
        '{"key":"Zm9v","sort_order":3000000000}', '{"key":"Zm9v","sort_order":true}', '{"key":"Zm9v","sort_order":{}}',
        '{"key":"Zm9v","sort_target":9}', '{"key":"Zm9v","sort_target":"descend"}', '{"unknown":1,"key":"Zm9v"}',
        '{"unknown":{"a":[1,{"b":null}]},"key":"Zm9v"}', '{"key":"Zm9v","key":"Zm9v"}', '{"range_end":"Zm9v","rangeEnd":"Zm9v"}',
        '{"key":null,"key":"Zm9v"}', '{"KEY":"Zm9v"}', '{"[x.y]":1,"key":"Zm9v"}', '', ' ', '{', '{"key', '{"key"', '{"key":', '{"key":"Zm9v"',
        '{"key":"Zm9v",', '{"key":"Zm9v",}', '{"key":"Zm9v"}}', '{"key":"Zm9v"} x', '{"key":"Zm9v"]', '{key:"Zm9v"}', "{'key':'Zm9v'}",
        '{"key" "Zm9v"}', '{"key":"Zm9v" "limit":1}', '{"key":tru}', '{"key":nul', '{"key":NaN}', '{"limit":1.}', '{"limit":.5}', '{"limit":-}',
        '{"limit":1e}', '{"limit":1e+}', '{"key":"a\tb"}', r'{"key":"a\xb"}', r'{"key":"\u12"}', r'{"key":"\ud800"}', r'{"key":"\ud800\u0041"}',
        b'{"key":"\xff\xfe"}', '[]', 'null', '3', '"x"', 'true', 'hello', '\n{\n  "key": "Zm9v",\n  "limit": "x"\n}\n',
        '\n\n  {\n  "key": "Zm9v",\n  "limit": tru\n}\n', '// c\n{}',
        '{"key":"Zm9v","a":' + "[" * 9990 + "]" * 9990 + "}", '{"key":"Zm9v","a":' + "[" * 10010 + "]" * 10010 + "}",
        '{"key":"' + "Zm9v" * 1000 + '"}',
    ],
    "/v3/auth/user/add": [
        b'{"name":"\xff\xfe","password":"x"}', b'{"\xff":"a","name":""}', b'\xff', '{"name":5}', '{"name":{}}', '{"options":5}', '{"options":null}',
        '{"options":[]}', r'{"name":"\ud83d\ude00x\u00e9","options":{"no_password":1}}',
    ],
    "/v3/kv/txn": [
        '{"compare":{}}', '{"compare":[5]}', '{"compare":[null]}', '{"compare":null}', '{"compare":[{"result":"EQ"}]}',
        '{"compare":[{"result":9,"key":"Zm9v"}]}', '{"compare":[{"target":9,"key":"Zm9v"}]}', '{"compare":[{"version":"1","value":"eA=="}]}',
        '{"compare":[{"version":"1","value":null,"key":"Zm9v"}]}', '{"success":[{"request_range":null}]}',
        '{"success":[{"request_range":{"key":"Zm9v"},"request_put":{"key":"Zm9v"}}]}', '{"success":[{"request_range":{"key":"Zm9v","limit":"y"}}]}',
        '{"success":[{"nothing":{}}]}',
    ],
    "/v3/lease/grant": ['{"TTL":"a"}', '{"ttl":10,"ID":123}'],
    "/v3/maintenance/alarm": [
        '{"memberID":-1}', '{"memberID":"-1"}', '{"memberID":18446744073709551616}', '{"memberID":18446744073709551615}',
        '{"alarm":7,"action":"GET"}',
    ],
    "/v3/cluster/member/add": ['{"peerURLs":"x"}', '{"peerURLs":[5]}', '{"peerURLs":[null]}'],
    "/v3/auth/role/grant": ['{"name":"x","perm":{"permType":9}}', '{"name":"x","perm":{"permType":"NONE"}}'],
    "/v3/watch": [
        '{"create_request":{"key":5}}', '{"create_request":{"key":"Zm9v"}}{"create_request":5}', '{"create_request":{"key":"Zm9v"}}{"cre',
        '{"create_request":{"key":"Zm9v"}} xx', '{"create_request":{"key":"Zm9v"},"cancel_request":{}}', '{', '', '[]', '{}',
    ],
    "/v3/lease/keepalive": ['{"ID":"x"}', '{"ID":1}{"ID":"x"}', '{"ID":1}{', '', 'xx'],
    "/v3/election/observe": ['{"name":5}'],
    "/v3/maintenance/snapshot": ['x'],
}
REQUESTS += [(path, body) for path, bodies in MALFORMED.items() for body in bodies]
REQUESTS += [
    ("/v3/watch", '{"create_request":{"key":"Zm9v","filters":[9]}}{"cancel_request":{"watch_id":0}}'),
    ("/v3/watch", '{"create_request":{"key":"Zm9v","filters":["X","NOPUT"]}}'),
]
REQUESTS += [("DELETE /v3/kv/range", ""), ("/v3/", "{}"), ("/v3/kv/nothing", "{}"), ("/v3/kv/range/", "{}")]

# Where Synod's answer is another one, and why.
KNOWN = {
    "Grpc-Timeout=1n": "an answer that is there at once is given",
    "/v3alpha/kv/range": "clients older than etcd 3.4 are understood",
    '/v3/maintenance/alarm {"alarm":7': "a kind of alarm that is none is refused",
}
# What cannot be read in a stream: etcd says nothing of it, and hears no more; nor does it send headers before there is an answer.
UNREAD = ["/v3/watch", "/v3/lease/keepalive"]

# Not asked of etcd 3.6.7, which ends with a panic: /v3/maintenance/alarm {"action":7}.

# Numbers that two fresh servers need not agree on.
LOOSE = re.compile(r'"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|dbSizeQuota|hash|'
                   r'compact_revision|authRevision)":("[^"]*"|[0-9]+)')


def ask(base, target, body):
    words = target.split(" ")
    path, method, headers = words[-1], "POST", {}
    for word in words[:-1]:
        if "=" in word:
            headers[word.split("=")[0]] = word.split("=")[1]
        else:
            method = word
    if isinstance(body, dict):
        body = json.dumps(body)
    if isinstance(body, str):
        body = body.encode()
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=1.5)
    connection.request(method, path, body or None, headers)
    try:
        answer = connection.getresponse()
    except TimeoutError:
        return None  # A stream that says nothing.
    text = b""
    try:
        while piece := answer.read1(1 << 16):
            text += piece
    except TimeoutError:
        pass  # A stream that goes on.
    content_type = (answer.headers.get("content-type") or "").split(";")[0]
    return answer.status, content_type, normal(text.decode())


def normal(text):
    lines = []
    for line in text.splitlines():
        try:
            message = json.loads(line)
            if isinstance(message, dict):
                message.pop("error", None) if "code" in message else None
            line = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
        except ValueError:
            pass
        # protojson writes its prefix with one of two spaces, to be no promise.
        line = LOOSE.sub(r'"\1":N', line).replace("proto:\u00a0", "proto: ")
        lines.append(line)
    return "\n".join(lines)


def main():
    reference, subject = sys.argv[1:3]
    differences = known = 0
    for target, body in REQUESTS:
        theirs, ours = ask(reference, target, body), ask(subject, target, body)
        if theirs == ours:
            continue
        told = f"{target} {json.dumps(body) if isinstance(body, dict) else body}"
        why = next((why for name, why in KNOWN.items() if told.startswith(name)), None)
        if why or target in UNREAD and body in MALFORMED[target]:
            known += 1
            continue
        differences += 1
        print(f"{told}\n  etcd  {theirs}\n  synod {ours}")
    print(f"{len(REQUESTS)} requests, {differences} differences, {known} known ones")
    sys.exit(differences != 0)


main()
