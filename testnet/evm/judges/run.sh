#!/bin/sh
# Has the embedded node judged by code that is not ours: ethers and viem use it as they use any node, and anvil executes the same
# transactions and has to agree block by block. Without npm or its registry nothing is judged, and each judge says so. A
# disagreement ends with a non-zero exit.
set -eu
cd "$(dirname "$0")"

skip() {
    for judge in anvil ethereumjs ethers viem; do
        echo "skipped: $judge ($1)"
    done
    exit 0
}

command -v node >/dev/null 2>&1 || skip "node is not installed"
command -v npm >/dev/null 2>&1 || skip "npm is not installed"

# Installed once for each lock file, so that a second run needs no registry.
installed=node_modules/.installed-from
if ! cmp -s package-lock.json "$installed"; then
    log=$(mktemp)
    trap 'rm -f "$log"' EXIT
    # Not `npm ci`: a registry may lack the builds of anvil for other platforms, and that is no fault of the lock file.
    if ! npm install --no-save --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
        if grep -Eq 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|network' "$log"; then
            skip "the npm registry is not reachable"
        fi
        cat "$log" >&2
        exit 1
    fi
    cp package-lock.json "$installed"
fi

target=${CARGO_TARGET_DIR:-../../../target}
cargo build --quiet --release -p lockstep-evm --example node
LOCKSTEP_EVM_NODE="$target/release/examples/node"
export LOCKSTEP_EVM_NODE

node web3.mjs
if node_modules/.bin/anvil --version >/dev/null 2>&1; then
    node anvil.mjs
else
    echo "skipped: anvil (it does not run on this platform)"
    echo "skipped: ethereumjs (it judges what anvil holds)"
fi
