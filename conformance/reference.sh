#!/bin/bash
# Builds a real etcd from its published Go modules, for the differential test and the bench, and prints the path of the binary.
# Usage: reference.sh [version]. Needs Go and its module proxy; keeps the result in the user's cache directory.
set -euo pipefail
version=${1:-3.6.7}
directory=${XDG_CACHE_HOME:-$HOME/.cache}/synod-conformance/etcd-$version
if [ ! -x "$directory/etcd" ]; then
  mkdir -p "$directory" && cd "$directory"
  printf 'module reference\n\ngo 1.24\n' >go.mod
  printf 'package main\n\nimport (\n\t"os"\n\n\t"go.etcd.io/etcd/server/v3/etcdmain"\n)\n\nfunc main() { etcdmain.Main(os.Args) }\n' >main.go
  { go get "go.etcd.io/etcd/server/v3@v$version" && go build -o etcd.new . && mv etcd.new etcd; } >&2
fi
echo "$directory/etcd"
