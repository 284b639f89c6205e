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

# Where Synod's answer is another one, and why.
KNOWN = {
    '/v3/kv/range {"key": "%s", "sort_order": 77}' % FOO: "an unknown number for an enum is refused by the parser",
    '/v3/kv/range {"key": "Zm9"}': "base64 whose last bits are lost is refused",
    "Grpc-Timeout=1n": "an answer that is there at once is given",
    "/v3alpha/kv/range": "clients older than etcd 3.4 are understood",
}

# Numbers that two fresh servers need not agree on.
LOOSE = re.compile(r'"(cluster_id|member_id|raft_term|leader|raftIndex|raftTerm|raftAppliedIndex|dbSize|dbSizeInUse|dbSizeQuota|hash|'
                   r'compact_revision|authRevision)":("[^"]*"|[0-9]+)')
# Parsers say the same in their own words.
PARSER = re.compile(r'"message":"(proto:|unexpected |invalid character).*"')


def ask(base, target, body):
    words = target.split(" ")
    path, method, headers = words[-1], "POST", {}
    for word in words[:-1]:
        if "=" in word:
            headers[word.split("=")[0]] = word.split("=")[1]
        else:
            method = word
    if not isinstance(body, str):
        body = json.dumps(body)
    connection = http.client.HTTPConnection(base.removeprefix("http://"), timeout=1.5)
    connection.request(method, path, body or None, headers)
    answer = connection.getresponse()
    text = b""
    try:
        while piece := answer.read1(1 << 16):
            text += piece
    except TimeoutError:
        pass  # A stream that goes on.
    content_type = (answer.headers.get("content-type") or "").split(";")[0]
    return answer.status, content_type, normal(text.decode(), path)


def normal(text, path):
    lines = []
    for line in text.splitlines():
        try:
            message = json.loads(line)
            if isinstance(message, dict):
                message.pop("error", None) if "code" in message else None
            line = json.dumps(message, separators=(",", ":"))
        except ValueError:
            pass
        line = LOOSE.sub(r'"\1":N', line)
        line = PARSER.sub('"message":"it cannot be parsed"', line)
        lines.append(line)
    return "\n".join(lines)


def main():
    reference, subject = sys.argv[1:3]
    differences = known = 0
    for target, body in REQUESTS:
        theirs, ours = ask(reference, target, body), ask(subject, target, body)
        if theirs == ours:
            continue
        told = f"{target} {body if isinstance(body, str) else json.dumps(body)}"
        why = next((why for name, why in KNOWN.items() if told.startswith(name)), None)
        if why:
            known += 1
            continue
        differences += 1
        print(f"{told}\n  etcd  {theirs}\n  synod {ours}")
    print(f"{len(REQUESTS)} requests, {differences} differences, {known} known ones")
    sys.exit(differences != 0)


main()
