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

# It says what is missing where it cannot install.
reason=$(./install.sh) || {
    [ $? -eq 75 ] || { echo "$reason" >&2; exit 1; }
    skip "$reason"
}

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
