#!/bin/sh
# Compiles src/ into artifacts/ with the pinned compiler; with --check, fails if the committed artifacts are other ones.
# Without npm or its registry the compiler is skipped, and the check with it.
set -eu
cd "$(dirname "$0")"

. ./install.sh
install_or_skip solc
exec node build.mjs "$@"
