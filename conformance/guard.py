#!/usr/bin/env python3
"""guard.py HOST:PORT NAME:TOKEN KEY: puts a key with the published Python client (pip install etcd3 'protobuf<4') under a guard, and prints what came of it."""

import sys

import etcd3

address, guard, key = sys.argv[1:]
host, port = address.rsplit(":", 1)
client = etcd3.client(host=host, port=int(port), timeout=5)
client.metadata = (("synod-guard", guard),)
try:
    client.put(key, "guarded")
    print("ok")
except etcd3.exceptions.PreconditionFailedError as refused:
    # The library's own exception says no more; what it was made of does.
    error = refused.__context__
    reason = dict(error.trailing_metadata()).get("synod-reason", "")
    print(f"{error.code().name} {reason}: {error.details()}")
