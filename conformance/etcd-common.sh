#!/bin/bash
# Runs etcd's own suite `tests/common` (the part of its end-to-end tests that both of its frameworks share) against Synod: members are started by etcd's
# framework with etcd's flags, in the place of the etcd binary, and spoken to with etcdctl.
#
#   conformance/etcd-common.sh [-test.run PATTERN] [other flags of Go's tests]
#
# SYNOD names the binary (default target/release/synod), ETCD_BINARY plays the suite to that etcd instead, for comparison. Needs Go and its module proxy;
# what was built stays in the user's cache directory.
set -euo pipefail
version=v3.6.7
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
synod=$(realpath "${SYNOD:-$root/target/release/synod}")
place=${XDG_CACHE_HOME:-$HOME/.cache}/synod-conformance/etcd-tests-$version

if [ ! -x "$place/common.test" ]; then
  rm -rf "$place"
  mkdir -p "$place"
  module=$(mktemp -d)
  cd "$module"
  printf 'module m\n' >go.mod
  source=$(go mod download -json "go.etcd.io/etcd/tests/v3@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
  cp -r "$source" "$place/tests"
  rm -r "$module"
  chmod -R u+w "$place/tests"
  cd "$place/tests"
  # As published the module looks for its neighbours beside it; the module proxy has them.
  for neighbour in api client/pkg client etcdctl etcdutl pkg server; do
    go mod edit -dropreplace "go.etcd.io/etcd/$neighbour/v3"
  done
  GOFLAGS=-mod=mod go test -buildvcs=false -p 1 -c -tags e2e -o "$place/common.test" ./common
  GOFLAGS=-mod=mod go build -buildvcs=false -p 1 -o "$place/etcdctl" go.etcd.io/etcd/etcdctl/v3
fi

# The framework starts `etcd` and waits for words that etcd logs when it serves and knows a leader.
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
ln -s "$place/etcdctl" "$bin/etcdctl"
if [ -n "${ETCD_BINARY:-}" ]; then
  ln -s "$(realpath "$ETCD_BINARY")" "$bin/etcd"
else
  cat >"$bin/etcd" <<END
#!/bin/bash
case "\${1:-}" in --version) echo "etcd Version: ${version#v}"; exit ;; esac
exec "$synod" serve "\$@" 2> >(
  while IFS= read -r line; do
    echo "\$line"
    case "\$line" in *"member serves"*) serves=1 ;; *"role changed"*leader=*) led=1 ;; esac
    if [ "\$serves\$led" = 11 ] && [ -z "\$told" ]; then
      echo "ready to serve client requests"
      told=1
    fi
  done
)
END
  chmod +x "$bin/etcd"
fi
cd "$place/tests/common"
"$place/common.test" -bin-dir "$bin" -cert-dir "$place/tests/fixtures" "$@"
