#!/bin/sh
# etcd3-js.sh REFERENCE SUBJECT: plays the session of etcd3.js, by the npm package etcd3, to a real etcd and to Synod, both fresh, and compares what
# is printed. Each is one or more endpoints, with commas between. Needs node and npm.
set -eu
reference=$1 subject=$2
here=$(cd "$(dirname "$0")" && pwd)
work=${XDG_CACHE_HOME:-$HOME/.cache}/synod-conformance/etcd3-js
mkdir -p "$work"
[ -d "$work/node_modules/etcd3" ] || (cd "$work" && npm install --silent --no-audit --no-fund etcd3@1.1.2)
cp "$here/etcd3.js" "$work"
node "$work/etcd3.js" "$reference" >"$work/reference.txt"
node "$work/etcd3.js" "$subject" >"$work/subject.txt"
diff "$work/reference.txt" "$work/subject.txt"
echo "$(grep -vc '^#' "$work/subject.txt") steps, no difference"
