#!/bin/bash
# Runs every example of the Rust client, README.md's first program among them, to its end against `synod dev`. They name its usual ports, so all happens in a network of its own
# where that can be had. Usage: examples.sh [SYNOD] [EXAMPLES]; without arguments those that `cargo build --release` and `cargo test` left. Takes half a minute.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [ -z "${APART-}" ] && unshare -rn ip link set lo up 2>/dev/null; then
  APART=1 exec unshare -rn bash -c 'ip link set lo up && exec conformance/examples.sh "$@"' examples.sh "$@"
fi
synod=${1:-target/release/synod} examples=${2:-target/debug/examples}
here=$(mktemp -d)
"$synod" dev --ephemeral >"$here/dev" 2>&1 &
dev=$!
trap 'kill $dev 2>/dev/null || true; wait $dev 2>/dev/null || true; rm -rf "$here"' EXIT
for _ in $(seq 100); do
  "$synod" put svc/first here --timeout 1s >/dev/null 2>&1 && break
  kill -0 $dev || { cat "$here/dev"; exit 1; }
  sleep 0.3
done

declare -A running
for source in crates/client/examples/*.rs; do
  name=$(basename "$source" .rs)
  timeout 50 "$examples/$name" >"$here/$name" 2>&1 &
  running[$name]=$!
done
# This one goes on for ever.
for _ in $(seq 100); do
  "$synod" put svc/a "$RANDOM" >/dev/null
  [ -s "$here/watch" ] && break
  sleep 0.1
done
kill "${running[watch]}"

failed=()
for name in "${!running[@]}"; do
  code=0
  wait "${running[$name]}" || code=$?
  wanted=0
  [ "$name" != watch ] || wanted=143
  if [ "$code" = $wanted ] && [ -s "$here/$name" ]; then
    echo "ok    $name: $(tail -1 "$here/$name")"
  else
    echo "FAIL  $name: exit code $code"
    cat "$here/$name"
    failed+=("$name")
  fi
done
echo "${#running[@]} examples, ${#failed[@]} failed"
[ ${#failed[@]} = 0 ]
