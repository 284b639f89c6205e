#!/bin/bash
# Builds the load of `conformance faults` from client/ with etcd's published Go modules, and prints the path of the binary.
# Needs Go and its module proxy; keeps the result in the user's cache directory until its source changes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/client"
directory=${XDG_CACHE_HOME:-$HOME/.cache}/synod-conformance
binary=$directory/client-$(cat go.mod go.sum ./*.go | sha256sum | cut -c1-16)
if [ ! -x "$binary" ]; then
  mkdir -p "$directory"
  { go build -buildvcs=false -o "$binary.new.$$" . && mv "$binary.new.$$" "$binary"; } >&2
fi
echo "$binary"
