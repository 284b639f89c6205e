#!/usr/bin/env python3
"""The locks of redis-py and of kazoo under the loads of `bench locks`: each client a lock of its own, then all of them the same one.

Starts one Redis (append-only file, synced at every write) and one ZooKeeper on loopback if they are installed, and says what it leaves out if not:
  apt-get install redis-server zookeeper    pip install redis kazoo
Both are single servers, which favours them: neither waits for a majority. Clients are processes, because threads of Python would share one core.
`bench locks --peers` runs this and puts its rows beside those of etcd and Synod.
Usage: bench/locks_peers.py [--seconds 4] [--clients 1,16,64] [--contenders 64]
"""

import argparse
import glob
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

START_S = 30


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_for(process, port):
    for _ in range(START_S * 10):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            raise SystemExit(f"the server for port {port} ended with {process.returncode}")
        time.sleep(0.1)
    raise SystemExit(f"nothing listens at port {port} after {START_S} s")


def cpu_s(process):
    """User and system time of a process."""
    with open(f"/proc/{process.pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def redis_lock(port):
    import redis

    client = redis.Redis(port=port)
    # redis-py sleeps between its tries; its default is 0.1 s.
    return lambda name: client.lock(name, timeout=60)


def zookeeper_lock(port):
    from kazoo.client import KazooClient

    client = KazooClient(hosts=f"127.0.0.1:{port}")
    client.start(timeout=START_S)
    return lambda name: client.Lock(name)


def one_client(make, port, name, start, seconds, cycles):
    done = 0
    try:
        lock = make(port)(name)
        start.wait()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            lock.acquire()
            lock.release()
            done += 1
    finally:
        cycles.put(done)


def rate(make, port, names, seconds, server):
    """Cycles a second, and the server's CPU time for each in microseconds."""
    start = multiprocessing.Barrier(len(names) + 1)
    cycles = multiprocessing.Queue()
    clients = [
        multiprocessing.Process(target=one_client, args=(make, port, name, start, seconds, cycles))
        for name in names
    ]
    for client in clients:
        client.start()
    start.wait()
    before, since = cpu_s(server), time.monotonic()
    total = sum(cycles.get() for _ in clients)
    elapsed, used = time.monotonic() - since, cpu_s(server) - before
    for client in clients:
        client.join()
    return total / elapsed, used * 1e6 / max(total, 1)


def measure(label, make, port, server, plan):
    loads = [("acquire and release", [f"/bench/{number}" for number in range(count)]) for count in plan.clients]
    loads.append(("hand-offs of one lock", ["/bench/one"] * plan.contenders))
    for work, names in loads:
        if names:
            per_s, cpu_us = rate(make, port, names, plan.seconds, server)
            print(f"| {label} | {work} | {len(names)} | {per_s:.1f} | {cpu_us:.1f} |", flush=True)


def redis_server(directory, port):
    binary = shutil.which("redis-server")
    if binary is None:
        return None
    flags = ["--port", str(port), "--dir", directory, "--save", "", "--appendonly", "yes", "--appendfsync", "always"]
    return subprocess.Popen([binary, *flags], stdout=subprocess.DEVNULL)


def zookeeper_server(directory, port):
    jars = glob.glob("/usr/share/java/zookeeper*.jar")
    if shutil.which("java") is None or not jars:
        return None
    config = os.path.join(directory, "zoo.cfg")
    with open(config, "w") as file:
        file.write(f"tickTime=2000\ndataDir={directory}\nclientPort={port}\nadmin.enableServer=false\nmaxClientCnxns=0\n")
    path = ":".join(["/etc/zookeeper/conf", *glob.glob("/usr/share/java/*.jar")])
    main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
    # Its log of what it does goes into the same directory, and away with it.
    return subprocess.Popen(
        ["java", "-cp", path, main, config], cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def main():
    parser = argparse.ArgumentParser(description="The locks of redis-py and kazoo under the loads of `bench locks`.")
    parser.add_argument("--seconds", type=int, default=4, help="of each load")
    parser.add_argument("--clients", type=lambda text: [int(count) for count in text.split(",")], default=[1, 16, 64])
    parser.add_argument("--contenders", type=int, default=64, help="clients that want the same lock; 0 leaves that out")
    plan = parser.parse_args()
    print("| lock | work | clients | per s | server CPU us |\n|---|---|---|---|---|", flush=True)
    for label, package, start_server, make in [
        ("redis-py, one Redis", "redis", redis_server, redis_lock),
        ("kazoo, one ZooKeeper", "kazoo", zookeeper_server, zookeeper_lock),
    ]:
        try:
            __import__(package)
        except ImportError:
            print(f"skipped {label}: the Python package {package} is not installed", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as directory:
            port = free_port()
            server = start_server(directory, port)
            if server is None:
                print(f"skipped {label}: its server is not installed", file=sys.stderr)
                continue
            try:
                wait_for(server, port)
                measure(label, make, port, server, plan)
            finally:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main()
