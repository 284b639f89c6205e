#!/bin/bash
# A session of etcdctl about members, with a real etcd and with Synod: the same commands, refusals and changes, and what it said compared.
#
#   conformance/etcdctl-members.sh ETCD SYNOD
#
# ETCDCTL names the etcdctl (default: the one on the path). Ids, terms and ports are left out of the comparison; what is known and meant is in
# etcdctl-members.known, as `diff` writes it. Exits with 0 if there is nothing else.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
etcd=$(realpath "$1") synod=$(realpath "$2")
ctl=${ETCDCTL:-etcdctl}
place=$(mktemp -d)
members=()
trap 'kill -9 "${members[@]}" 2>/dev/null; wait 2>/dev/null; rm -rf "$place"' EXIT

peer() { echo "http://127.0.0.1:$((base + 10 + $1))"; }

# start NUMBER FLAGS...: one member in the background.
start() {
  local n=$1
  shift
  "${server[@]}" --name "m$n" --data-dir "$directory/m$n" \
    --listen-client-urls "http://127.0.0.1:$((base + n))" --advertise-client-urls "http://127.0.0.1:$((base + n))" \
    --listen-peer-urls "$(peer "$n")" --initial-advertise-peer-urls "$(peer "$n")" "$@" >"$directory/m$n.log" 2>&1 &
  members+=($!)
  process[n]=$!
}

# Says a command and what it answers, without what the client library logs.
say() {
  echo "\$ etcdctl $*"
  # Members are listed by id, which is drawn at random.
  local order=cat
  [ "$1 ${2:-}" = "member list" ] && order=sort
  timeout 15 "$ctl" --endpoints="127.0.0.1:$((base + ${to:-1}))" "$@" 2>&1 | grep -v '"level":' | plain | $order
  echo "exit code ${PIPESTATUS[0]}"
}

id() { timeout 15 "$ctl" --endpoints="127.0.0.1:$((base + 1))" member list | grep "$1" | cut -d, -f1; }

# Waits until the list of members holds this.
listed() {
  for _ in $(seq 100); do
    timeout 5 "$ctl" --endpoints="127.0.0.1:$((base + 1))" member list 2>/dev/null | grep -q "$1" && return
    sleep 0.2
  done
  echo "no $1 among the members"
}

session() {
  start 1 --initial-cluster "m1=$(peer 1)"
  listed started
  say member list
  say member remove "$(id m1)"
  say member add x --peer-urls="$(peer 1)"
  say member add x --peer-urls=foo
  say member add x --peer-urls=http://127.0.0.1:1/path
  say member add x
  say member remove 123
  say member promote 123
  say member promote "$(id m1)"
  say member update 123 --peer-urls="$(peer 9)"
  say member add l --learner --peer-urls="$(peer 2)"
  say member list
  say member list -w table
  say member add l2 --learner --peer-urls="$(peer 5)"
  say member promote "$(id unstarted)"
  say member update "$(id unstarted)" --peer-urls="$(peer 1)"
  start 2 --initial-cluster "m1=$(peer 1),m2=$(peer 2)" --initial-cluster-state existing
  listed m2
  sleep 2
  say member list
  to=2 say get foo
  to=2 say put foo x
  to=2 say member list
  say member promote "$(id m2)"
  say member list
  say member promote "$(id m2)"
  say put foo y
  to=2 say get foo
  say move-leader 123
  say move-leader "$(id m2)"
  to=2 say move-leader "$(id m1)"
  say downgrade validate 3.5
  say downgrade validate 3.4
  say downgrade validate x.y
  say downgrade cancel
  # etcd believes in a connection after five seconds.
  sleep 7
  say member add m3 --peer-urls="$(peer 3)"
  start 3 --initial-cluster "m1=$(peer 1),m2=$(peer 2),m3=$(peer 3)" --initial-cluster-state existing
  listed m3
  sleep 7
  say member list
  local gone
  gone=$(id m2)
  say member remove "$gone"
  sleep 3
  if kill -0 "${process[2]}" 2>/dev/null; then echo "m2 still runs"; else echo "m2 has ended"; fi
  say member remove "$gone"
  say put foo z
  to=3 say get foo
}

plain() { sed -E 's/\b[0-9a-f]{13,16}\b/ID/g; s/[0-9]{13,}/N/g; s/:[0-9]{3}([0-9]{2})\b/:\1/g; s/"raft_term":[0-9]+/"raft_term":N/; s/^(ETCD_INITIAL_CLUSTER=).*/\1MEMBERS/'; }

# play NAME BASE COMMAND...: the whole session with servers started so.
play() {
  local name=$1
  base=$2
  shift 2
  server=("$@") directory=$place/$name process=()
  mkdir "$directory"
  session >"$directory.raw" 2>&1
  kill -9 "${members[@]}" 2>/dev/null
  wait 2>/dev/null
  members=()
  plain <"$directory.raw" >"$place/$name.txt"
}

ports=$((20000 + $$ % 100 * 100))
play etcd "$ports" "$etcd"
play synod "$((ports + 100))" "$synod" serve
known=$here/etcdctl-members.known
diff "$place/etcd.txt" "$place/synod.txt" >"$place/differences"
if [ -n "${UPDATE_GOLDEN:-}" ]; then cp "$place/differences" "$known"; fi
if diff "$known" "$place/differences"; then
  echo "$(grep -c '^\$' "$place/etcd.txt") commands; no differences but those that are known"
else
  exit 1
fi
