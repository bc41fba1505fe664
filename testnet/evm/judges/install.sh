#!/bin/sh
# Installs anvil, ethers and viem from npm into this folder, as the lock file says: judges of the embedded node, and an L1 for
# `lockstep-testnet --l1 anvil`. Where that cannot be, says why and ends with 75.
set -eu
cd "$(dirname "$0")"

unavailable() {
    echo "$1"
    exit 75
}

command -v node >/dev/null 2>&1 || unavailable "node is not installed"
command -v npm >/dev/null 2>&1 || unavailable "npm is not installed"

# Once for each lock file, so that a second run needs no registry.
installed=node_modules/.installed-from
if cmp -s package-lock.json "$installed"; then
    echo "installed already"
    exit 0
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Not `npm ci`: a registry may lack the builds of anvil for other platforms, and that is no fault of the lock file.
if ! npm install --no-save --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
    if grep -Eq 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|network' "$log"; then
        unavailable "the npm registry is not reachable"
    fi
    cat "$log"
    exit 1
fi
cp package-lock.json "$installed"
echo "installed in $PWD/node_modules"
