#!/bin/bash
# Every figure that RESULTS.md records, in one run on an otherwise quiet machine, about fifteen minutes: puts, gets and a mix beside etcd with
# CPU, memory and fail-over; a range over and a delete of a million keys; a member catching up; locks,
# sessions and ids. Prints Markdown.
# Usage: bench/figures.sh [--quick]   (--quick: small numbers, a minute, to see that everything works)
# Variables: SYNOD and ETCD, the binaries to compare.
set -euo pipefail
cd "$(dirname "$0")/.."
synod=${SYNOD:-target/release/synod}
etcd=${ETCD:-$(conformance/reference.sh)}
bench=target/release/bench
load=(--clients 1,16,64,256 --seconds 3 --rounds 2 --fail-overs 5)
range=(--seconds 4)
missed=(--seconds 4)
locks=(--seconds 3 --rounds 3 --peers)
if [ "${1:-}" = --quick ]; then
  load=(--clients 1,64 --seconds 1 --rounds 1 --fail-overs 1)
  range=(--seconds 1 --keys 50000 --ranges 1)
  missed=(--seconds 1 --writes 20000)
  locks=(--seconds 1 --rounds 1 --clients 1,64 --peers --sessions 5000 --renewal 5 --keep 10)
fi
echo "$(date -u +%F). $(nproc) cores, $(awk '/MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo), load $(cut -d' ' -f1 /proc/loadavg) before;" \
  "$("$etcd" --version | head -1), $("$synod" --version) ($(git describe --always --dirty 2>/dev/null || echo unknown)), $(rustc --version)."
echo
"$bench" etcd --programs "$etcd,$synod" --members 3 "${load[@]}"
"$bench" big-range --programs "$etcd,$synod" "${range[@]}"
"$bench" catch-up --programs "$etcd,$synod" "${missed[@]}"
"$bench" locks --programs "$etcd,$synod" "${locks[@]}"
"$bench" ids --programs "$synod"
