#!/usr/bin/env bash
# Runs the tests:  bash scripts/test.sh [--slow] [pytest arguments]
# Sets up .venv first. Without --slow, the tests that take minutes are left out. Paths among pytest's
# arguments are relative to the repository root.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/setup_venv.sh"

marker=(-m "not slow")
if [[ "${1:-}" == --slow ]]; then
    marker=()
    shift
fi
cd "$root"
exec python -m pytest ${marker[@]+"${marker[@]}"} "$@"
