#!/bin/sh
# Has the golden vectors checked by code that is not ours: OpenZeppelin's merkle-tree, noble's curves and hashes, ethers.
# Without npm or its registry nothing is checked, and each judge says so. A disagreement ends with a non-zero exit.
set -eu
cd "$(dirname "$0")"

skip() {
    for judge in noble-hashes noble-curves merkle-tree ethers "ethers abi"; do
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

exec node judge.mjs
