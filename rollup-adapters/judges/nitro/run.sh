#!/usr/bin/env bash
# What do Arbitrum's own contracts and a published feed client say about us?
#
# Installs anvil and @arbitrum/nitro-contracts from npm, and sequencer_client from crates.io, into ignored folders, and runs the tests
# that ask them. What cannot be installed is named as skipped; what disagrees ends this with an error.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../../target}

skipped() { echo "skipped: $1 ($2)"; }

# No scripts of packages are run: both are used as they come.
if (cd "$here" && echo '{"private":true}' >package.json && npm install --silent --no-audit --no-fund --ignore-scripts \
    @foundry-rs/anvil@1.7.1 @arbitrum/nitro-contracts@3.2.0); then
  for program in "$here"/node_modules/@foundry-rs/anvil-*/bin/anvil*; do
    if [ -f "$program" ] && "$program" --version >/dev/null 2>&1; then export LOCKSTEP_ANVIL=$program; fi
  done
  export LOCKSTEP_NITRO_CONTRACTS=$here/node_modules/@arbitrum/nitro-contracts
  [ -n "${LOCKSTEP_ANVIL:-}" ] || skipped anvil "npm has it, it does not run here"
else
  skipped "anvil, @arbitrum/nitro-contracts" "npm cannot install them"
fi

if cargo build --release --locked --manifest-path "$here/reader/Cargo.toml" --target-dir "$target/feed-reader"; then
  export LOCKSTEP_FEED_READER=$target/feed-reader/release/lockstep-feed-reader
else
  skipped sequencer_client "it does not build here"
fi

cargo test --release -p lockstep-adapters --test arbitrum_contracts --test arbitrum_feed_reader -- --nocapture
