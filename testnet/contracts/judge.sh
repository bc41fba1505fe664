#!/bin/sh
# Is NitroInbox what it stands for? Sends the same calls in the same blocks to it and to the real contracts
# (@arbitrum/nitro-contracts, BUSL licence: installed to be called, not part of this tree) on anvil, and compares. What cannot be
# installed is named as skipped. A difference ends with a non-zero exit. SEED=<number> chooses the random calls.
set -eu
cd "$(dirname "$0")"

. ./install.sh
install_or_skip solc anvil nitro-contracts
node build.mjs --check
if ! node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil --version >/dev/null 2>&1; then
    skip "anvil does not run on this platform" anvil nitro-contracts
    exit 0
fi
exec node judge.mjs
