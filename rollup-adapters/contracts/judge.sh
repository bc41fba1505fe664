#!/bin/sh
# Has the contracts judged: the committed artifacts must be what the sources compile to, the tests in test/ must pass under forge with
# certificates and trees that other people's libraries made, and settling on anvil must end as it should (writes GAS.md).
# What cannot be installed is said as `skipped`; a disagreement ends with a non-zero exit.
# FOUNDRY_FUZZ_RUNS, FOUNDRY_INVARIANT_RUNS and FOUNDRY_INVARIANT_DEPTH ask for longer runs.
set -eu
cd "$(dirname "$0")"

skip() {
    for judge in solc forge anvil noble-curves merkle-tree; do
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
    if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
        if grep -Eq 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|network' "$log"; then
            skip "the npm registry is not reachable"
        fi
        cat "$log" >&2
        exit 1
    fi
    cp package-lock.json "$installed"
fi

node build.mjs --check

# The lock file holds the binaries of one platform, as optional packages; elsewhere put your own in their place.
case "$(uname -m)" in x86_64) machine=amd64 ;; aarch64 | arm64) machine=arm64 ;; *) machine=none ;; esac
system=$(uname -s | tr '[:upper:]' '[:lower:]')
forge="node_modules/@foundry-rs/forge-$system-$machine/bin/forge"
anvil="node_modules/@foundry-rs/anvil-$system-$machine/bin/anvil"

if [ -x "$forge" ]; then
    node judge.mjs
    "$forge" test
else
    echo "skipped: forge (no binary for $system-$machine)"
fi
if [ -x "$anvil" ]; then
    node gas.mjs "$anvil"
else
    echo "skipped: anvil (no binary for $system-$machine)"
fi
