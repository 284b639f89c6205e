#!/bin/bash
# A session of etcdctl about keys, transactions, leases, watches, users, locks and upkeep, with a real etcd and with Synod: what it said compared.
#
#   conformance/etcdctl-session.sh ETCD SYNOD
#
# ETCDCTL names the etcdctl (default: the one on the path), of any version from 3.4 on; commands and options that it does not know fail on both sides
# alike. Ids, terms, versions and times are left out of the comparison, and so are compactions by users and the status of authentication for nobody, about which
# etcd 3.6 and 3.7 differ. Exits with 0 if nothing else differs.
set -uo pipefail
etcd=$(realpath "$1") synod=$(realpath "$2")
ctl=${ETCDCTL:-etcdctl}
place=$(mktemp -d)
trap 'kill -9 $(jobs -p) 2>/dev/null; wait 2>/dev/null; rm -rf "$place"' EXIT

# Lines of the client's own log begin with a brace and its level.
plain() {
  sed -E '/^\{"level":/d; s/"(cluster_id|member_id|raft_term|remaining-ttl|ttl)":[0-9]+/"\1":N/g; s/"(ClusterID|MemberID|RaftTerm)" : [0-9]+/"\1" : N/
    s/(took|remaining)[^,]*/\1/; s/:[0-9]{5}\b/:PORT/g; s/\b[0-9a-f]{13,16}\b/ID/g; s/version [0-9.]+/version V/; s/(Server version).*/\1 V/; s/0x[0-9a-f]+/P/g'
}

run() { timeout 15 "$ctl" --endpoints="$at" --command-timeout=5s "$@" 2>&1; }

say() {
  echo "\$ etcdctl $*"
  run "$@" </dev/null
  echo "exit code $?"
}

# A transaction: comparisons, what follows if they hold, and what if not, in lines.
txn() {
  echo "\$ etcdctl txn <<< $1"
  printf '%b' "$1" | run txn
  echo "exit code $?"
}

# Sizes and versions differ, the shape does not.
empty() {
  local shape
  for shape in simple table json fields; do
    echo "\$ etcdctl endpoint status -w $shape"
    run endpoint status -w "$shape" | wc -l
    echo "exit code ${PIPESTATUS[0]}"
  done
  say get --prefix ''; say lease list; say user list; say role list; say alarm list; say endpoint hashkv | wc -l; say del --prefix ''
}

keys() {
  say put a 1; say put a 2 --prev-kv; say get a; say get a -w json; say get a -w fields; say get ''; say get --prefix ''
  for n in 1 2 3 4 5; do say put "k$n" "v$n"; done
  say put k3 again; say get --prefix k --limit 2; say get --prefix k --limit 2 -w fields; say get --prefix k --keys-only; say get --prefix k --count-only -w fields
  say get --prefix k --sort-by MODIFY; say get --prefix k --sort-by MODIFY --order DESCEND; say get --prefix k --sort-by VERSION --order ASCEND
  say get --from-key k3; say get k1 k4; say get k4 k1; say get --prefix k --rev 3; say get a --rev 999; say get --prefix k --print-value-only; say get --prefix k --consistency s
  say get --prefix k --min-mod-rev 5; say get --prefix k --max-create-rev 5; say get --prefix k --min-create-rev 5 --max-mod-rev 6
  for more in "" "--limit 2" "--sort-by MODIFY" "--order ASCEND" "--order DESCEND" "--sort-by MODIFY --order ASCEND" "--min-mod-rev 5" --count-only --keys-only "-w json" "--rev 4" "--rev 999"; do
    # shellcheck disable=SC2086 # a list of options
    say get --prefix k --stream $more
  done
  say get none --stream; say get '' --stream
  say put x --ignore-value; say put --ignore-lease y z; say put '' v; say put x y --lease=1234; say put a 3 --guard; say put; say get a b c
  say del k1; say del --prefix k --prev-kv; say del none; say del ''
}

transactions() {
  txn 'value("a") = "2"\n\nput b 1\nget b\n\nput b 2\n\n'; txn 'mod("a") > "100"\n\nput b 3\n\nput b 4\nget b\n\n'; txn 'lease("a") = "0"\ncreate("a") > "1"\nversion("a") < "10"\n\nget a\n\n\n'
  txn '\nput p 1\nput p 2\n\n\n'; txn '\nput q 1\ndel q\n\n\n'; txn '\ndel --prefix p\nget --prefix p\n\n\n'; txn 'value("none") = ""\n\n\nput n 1\n\n'; txn '\nput x --lease=1234\n\n\n'
}

leases() {
  local lease
  lease=$(run lease grant 100 | awk '{ print $2 }')
  say put l1 v --lease="$lease"; say put l2 v --lease="$lease"; say lease timetolive "$lease"; say lease timetolive "$lease" --keys; say lease list; say lease keep-alive --once "$lease"
  say get l1 -w json | sed -E 's/"lease":[0-9]+/"lease":N/'; say lease revoke "$lease"; say get l1; say lease revoke "$lease"; say lease timetolive "$lease"; say lease keep-alive --once "$lease"
  say lease grant 0; say lease grant -- -5; say lease grant 99999999999; say lease revoke zz
}

upkeep() {
  say compaction 5; say compaction 5; say compaction 999; say compaction -- -1; say get a --rev 2; say get a --rev 2 --stream; say compaction 6 --physical; say defrag; say alarm list; say alarm disarm
  say endpoint health; say endpoint status | wc -l; say endpoint hashkv | wc -l; say move-leader 1; say snapshot save "$place/file"; rm -f "$place/file"; say frob
}

watches() {
  echo '$ etcdctl watch --rev 1'
  timeout 3 "$ctl" --endpoints="$at" watch w --rev 1 2>&1
  for options in --prefix "--prefix --prev-kv" "--prefix --rev 8" "--prefix -w json"; do
    echo "\$ etcdctl watch w $options"
    # shellcheck disable=SC2086 # a list of options
    timeout 5 "$ctl" --endpoints="$at" watch w $options >"$place/watch" 2>&1 &
    sleep 1
    run put w1 a >/dev/null; run put w1 b >/dev/null; run del w1 >/dev/null
    sleep 1
    kill %% 2>/dev/null
    wait %% 2>/dev/null
    cat "$place/watch"
  done
}

users() {
  say role add r; say role add r; say role grant-permission r readwrite --prefix app/; say role grant-permission r read foo zoo; say role grant-permission r write one; say role grant-permission none read a
  say role get r; say role list; say user add u:pw; say user add u:pw; say user grant-role u r; say user grant-role u none; say user get u; say user get u --detail; say user list; say user add n --no-password
  say auth enable; say user add root:rpw; say auth enable; say user grant-role root root; say auth status; say auth enable; say get a
  for words in "get app/x" "put app/x 1" "put other 1" "get foo" "get foo zp" "put one 1" "get one" "get --prefix app/ --stream" "get --prefix other --stream" "lease list" "role list" "user get u" "user get root" "member list" "watch x --rev 9" "lock l true"; do
    # shellcheck disable=SC2086 # a command and its options
    say --user u:pw $words
  done
  say --user u:bad get app/x; say --user none:pw get app/x; say --user n: get a; say --user root:rpw role revoke-permission r --prefix app/; say --user u:pw get app/x; say --user root:rpw user revoke-role u r; say --user u:pw get foo
  say --user root:rpw user delete root; say --user root:rpw role delete root; say --user root:rpw user delete u; say --user u:pw get foo; say --user root:rpw role delete r; say --user root:rpw role delete r; say --user root:rpw auth disable; say auth disable; say auth status
}

locks() {
  say lock name echo held; say lock name false; say lock; say elect name; say elect -l name
  echo '$ etcdctl elect name value'
  timeout 2 "$ctl" --endpoints="$at" elect name value 2>&1
  say get --prefix name --keys-only
}

# play NAME BASE COMMAND...: the whole session with a server started so.
play() {
  local name=$1 base=$2
  shift 2
  at=127.0.0.1:$base
  "$@" --name m1 --data-dir "$place/$name" --listen-client-urls "http://$at" --advertise-client-urls "http://$at" --listen-peer-urls "http://127.0.0.1:$((base + 1))" \
    --initial-advertise-peer-urls "http://127.0.0.1:$((base + 1))" --initial-cluster "m1=http://127.0.0.1:$((base + 1))" >"$place/$name.log" 2>&1 &
  local server=$!
  until run get ready >/dev/null; do sleep 0.3; done
  { empty; keys; transactions; leases; upkeep; watches; users; locks; } 2>&1 | plain >"$place/$name.txt"
  kill -9 "$server"
  wait "$server" 2>/dev/null
}

ports=$((20000 + $$ % 100 * 100))
play etcd "$ports" "$etcd"
play synod "$((ports + 50))" "$synod" serve
diff "$place/etcd.txt" "$place/synod.txt" && echo "$(grep -c '^\$' "$place/etcd.txt") commands, no differences"
