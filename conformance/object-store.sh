#!/bin/bash
# Builds a real object store with conditional writes (versitygw: S3's protocol over a directory) from its published Go modules, for `conformance fencing-resources`, and prints
# the path of the binary. Usage: object-store.sh [version]. Needs Go and its module proxy; keeps the result in the user's cache directory.
set -euo pipefail
version=${1:-1.8.0}
directory=${XDG_CACHE_HOME:-$HOME/.cache}/synod-conformance/versitygw-$version
if [ ! -x "$directory/versitygw" ]; then
  mkdir -p "$directory"
  GOBIN=$directory go install "github.com/versity/versitygw/cmd/versitygw@v$version" >&2
fi
echo "$directory/versitygw"
