#!/usr/bin/env bash
# What do op-geth and op-node, as they come, say about our OP Stack driver and poster, and about the embedded node?
#
# Builds both from the Go module proxy, at the versions of go.mod, into a folder that is kept from run to run, and runs the tests that
# ask them. Without Go or its proxy both are named as skipped; what disagrees ends this with an error.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)

skipped() {
  echo "skipped: op-geth ($1)"
  echo "skipped: op-node ($1)"
  exit 0
}

command -v go >/dev/null 2>&1 || skipped "Go is not installed"

# Beside the folder for build products, where there is one.
if [ -n "${LOCKSTEP_BUILD_DIR:-}" ] && [ -d "$LOCKSTEP_BUILD_DIR" ]; then
  kept=$LOCKSTEP_BUILD_DIR/op-stack
else
  kept=$HOME/.cache/lockstep/op-stack
fi
mkdir -p "$kept" || exit 1

# No other Go than the one that is here: what go.mod asks for is old enough.
export GOTOOLCHAIN=local GOFLAGS=-mod=readonly
made_from() { cat "$here/go.mod" "$here/go.sum" "$here/run.sh"; go version; }

build() {
  local log=$kept/build.log node geth
  (cd "$here" && go mod download github.com/ethereum-optimism/optimism github.com/ethereum/go-ethereum) >"$log" 2>&1 || return 75
  node=$(cd "$here" && go list -m -f '{{.Dir}}' github.com/ethereum-optimism/optimism) || return 1
  geth=$(cd "$here" && go list -m -f '{{.Dir}}' github.com/ethereum/go-ethereum) || return 1

  # op-node embeds a list of known chains that its module lacks and names by its hash, which it checks when it starts. This op-geth has that very file. A module is
  # read-only where Go keeps it, so the sources are copied, and go.mod is told so.
  rm -rf "$kept/optimism" && mkdir -p "$kept/optimism/packages/contracts-bedrock" || return 1
  cp -R "$node/go.mod" "$node/go.sum" "$node"/op-* "$kept/optimism/" || return 1
  cp -R "$node/packages/contracts-bedrock/snapshots" "$kept/optimism/packages/contracts-bedrock/" || return 1
  chmod -R u+w "$kept/optimism" || return 1
  cp "$geth/superchain/superchain-configs.zip" "$kept/optimism/op-core/superchain/" || return 1
  cp "$here/go.mod" "$here/go.sum" "$kept/" && chmod u+w "$kept/go.mod" "$kept/go.sum" || return 1
  go mod edit -replace "github.com/ethereum-optimism/optimism=$kept/optimism" "$kept/go.mod" || return 1

  echo "building op-geth and op-node into $kept (some minutes, once)"
  (
    cd "$here" &&
      go build -modfile "$kept/go.mod" -o "$kept/op-geth" github.com/ethereum/go-ethereum/cmd/geth &&
      go build -modfile "$kept/go.mod" -o "$kept/op-node" github.com/ethereum-optimism/optimism/op-node/cmd
  ) >>"$log" 2>&1 || { tail -n 20 "$log" >&2; return 75; }
  rm -rf "$kept/optimism"
  made_from >"$kept/made-from"
}

if ! made_from | cmp -s - "$kept/made-from" || [ ! -x "$kept/op-geth" ] || [ ! -x "$kept/op-node" ]; then
  build
  case $? in
  0) ;;
  75) skipped "the modules cannot be had or do not build with $(go version), see $kept/build.log" ;;
  *) echo "op-geth and op-node cannot be built, see $kept/build.log" >&2; exit 1 ;;
  esac
fi

export LOCKSTEP_OP_GETH=$kept/op-geth LOCKSTEP_OP_NODE=$kept/op-node
# For blobs, where another judge has installed it.
for anvil in "$here"/../../../testnet/evm/judges/node_modules/@foundry-rs/anvil-*/bin/anvil "$here"/../nitro/node_modules/@foundry-rs/anvil-*/bin/anvil; do
  if [ -z "${LOCKSTEP_ANVIL:-}" ] && [ -x "$anvil" ] && "$anvil" --version >/dev/null 2>&1; then export LOCKSTEP_ANVIL=$anvil; fi
done
cargo test --release -p lockstep-adapters --test run -- op_geth:: op_node:: --nocapture
