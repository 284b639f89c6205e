#!/usr/bin/env python3
"""The locks of redis-py and of kazoo under the loads of `bench locks`: each client a lock of its own, then all of them the same one.

Starts one Redis (append-only file, synced at every write) and one ZooKeeper on loopback if they are installed, and says what it leaves out if not:
  apt-get install redis-server zookeeper    pip install redis kazoo
Both are single servers, which favours them: neither waits for a majority. Clients are processes, because threads of Python would share one core.
Usage: bench/locks_peers.py [seconds]
"""

import glob
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time

CLIENTS = [1, 16, 64]
CONTENDERS = 64


def free_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


def wait_for(port):
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens at port {port}")


def redis_lock(port):
    import redis

    client = redis.Redis(port=port)
    # redis-py sleeps between its tries; its default is 0.1 s.
    return lambda name: client.lock(name, timeout=60)


def zookeeper_lock(port):
    from kazoo.client import KazooClient

    client = KazooClient(hosts=f"127.0.0.1:{port}")
    client.start(timeout=30)
    return lambda name: client.Lock(name)


def one_client(make, port, name, start, seconds, cycles):
    lock = make(port)(name)
    start.wait()
    until = time.monotonic() + seconds
    done = 0
    while time.monotonic() < until:
        lock.acquire()
        lock.release()
        done += 1
    cycles.put(done)


def rate(make, port, names, seconds):
    start = multiprocessing.Barrier(len(names))
    cycles = multiprocessing.Queue()
    clients = [
        multiprocessing.Process(target=one_client, args=(make, port, name, start, seconds, cycles))
        for name in names
    ]
    for client in clients:
        client.start()
    total = sum(cycles.get() for _ in clients)
    for client in clients:
        client.join()
    return total / seconds


def measure(label, make, port, seconds):
    for count in CLIENTS:
        names = [f"/bench/{number}" for number in range(count)]
        print(f"| {label} | acquire and release | {count} | {rate(make, port, names, seconds):.0f} |", flush=True)
    print(f"| {label} | hand-offs of one lock | {CONTENDERS} | {rate(make, port, ['/bench/one'] * CONTENDERS, seconds):.0f} |", flush=True)


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
    return subprocess.Popen(["java", "-cp", path, main, config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    print("| lock | work | clients | per s |\n|---|---|---|---|")
    for label, package, server, make in [
        ("redis-py", "redis", redis_server, redis_lock),
        ("kazoo", "kazoo", zookeeper_server, zookeeper_lock),
    ]:
        try:
            __import__(package)
        except ImportError:
            print(f"skipped {label}: the Python package {package} is not installed", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as directory:
            port = free_port()
            process = server(directory, port)
            if process is None:
                print(f"skipped {label}: its server is not installed", file=sys.stderr)
                continue
            try:
                wait_for(port)
                measure(label, make, port, seconds)
            finally:
                process.terminate()
                process.wait()


if __name__ == "__main__":
    main()
