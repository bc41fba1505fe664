# Sourced by build.sh and judge.sh. `install_or_skip NAME...` installs what package-lock.json pins, once for each lock file, so
# that a second run needs no registry; where it cannot, it names what is skipped and ends.

skip() {
    reason=$1
    shift
    for name in "$@"; do
        echo "skipped: $name ($reason)"
    done
}

install_or_skip() {
    command -v node >/dev/null 2>&1 || { skip "node is not installed" "$@"; exit 0; }
    command -v npm >/dev/null 2>&1 || { skip "npm is not installed" "$@"; exit 0; }
    installed=node_modules/.installed-from
    if ! cmp -s package-lock.json "$installed"; then
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        if ! npm ci --ignore-scripts --no-audit --no-fund >"$log" 2>&1; then
            if grep -Eq 'ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED|network' "$log"; then
                skip "the npm registry is not reachable" "$@"
                exit 0
            fi
            cat "$log" >&2
            exit 1
        fi
        cp package-lock.json "$installed"
    fi
}
