#!/bin/bash
# Where the CPU time of three members goes: samples all of them with perf while bench drives them, and prints shares by part and by function.
# Usage: bench/profile.sh [clients] [seconds]. Needs perf, and the right to use it (kernel.perf_event_paranoid at most 1, or root).
set -euo pipefail
cd "$(dirname "$0")/.."
clients=${1:-64}
seconds=${2:-10}
synod=${SYNOD:-target/release/synod}
samples=$(mktemp)
trap 'rm -f "$samples"' EXIT
target/release/bench etcd --programs "$synod" --members 3 --clients "$clients" --rounds 1 --seconds $((seconds + 4)) --load-only >/dev/null 2>&1 &
bench=$!
sleep 4 # Start, fill, warm up; puts come first.
perf record -q -F 499 -g -o "$samples" -p "$(pgrep -d, -P $bench)" -- sleep "$seconds" >/dev/null
kill $bench
echo "Puts of 256 bytes, $clients clients, three members, $seconds s:"
# A sample in the kernel counts for the system call it is in, any other for the function it is in.
perf script -i "$samples" -F comm,ip,sym 2>/dev/null | awk '
  function part(name) {
    if (match(name, /synod_[a-z]+|tokio|tonic|hyper|h2::|prost|bytes::|http::|crc32c|xxhash|tracing|axum|tower/)) {
      name = substr(name, RSTART, RLENGTH); sub(/::$/, "", name); return name
    }
    if (name ~ /^_?mi_/) return "allocator"
    if (name ~ /mem(cpy|move|set|cmp)/) return "copying and comparing memory"
    return "other"
  }
  function count() {
    if (!depth) return
    total++
    where = call != "" ? "kernel: " call : (kernel ? "kernel: other" : part(own))
    parts[where]++
    thread = comm; sub(/^n[0-9]+-/, "", thread); threads[thread]++
    if (call == "" && !kernel) { functions[substr(own, 1, 90)]++ }
    depth = 0; call = ""; kernel = 0
  }
  /^$/ { count(); next }
  /^[^ \t]/ { comm = $1; next }
  {
    address = $1; name = $0; sub(/^[ \t]*[0-9a-f]+ /, "", name)
    if (!depth++) { own = name; kernel = address ~ /^ffff/ }
    if (call == "" && name ~ /^__x64_sys_/) { call = name; sub(/^__x64_sys_/, "", call) }
  }
  END {
    count()
    printf "\n| share of all CPU | part |\n|---|---|\n"; for (p in parts) printf "| %.1f %% | %s |\n", 100 * parts[p] / total, p | "sort -t\"|\" -k2 -rn | head -20"
    close("sort -t\"|\" -k2 -rn | head -20")
    printf "\n| share | thread |\n|---|---|\n"; for (t in threads) printf "| %.1f %% | %s |\n", 100 * threads[t] / total, t | "sort -t\"|\" -k2 -rn"
    close("sort -t\"|\" -k2 -rn")
    printf "\n| share | function |\n|---|---|\n"; for (f in functions) printf "| %.1f %% | `%s` |\n", 100 * functions[f] / total, f | "sort -t\"|\" -k2 -rn | head -15"
  }'
