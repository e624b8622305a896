#!/usr/bin/env bash
# Runs the tests:  bash scripts/test.sh [--slow] [pytest arguments]
# Sets up .venv first. Without --slow, the tests that take minutes are left out and files of tests run side
# by side, in up to four processes (-n 0 for one). Paths among pytest's arguments are relative to the
# repository root.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
source "$root/scripts/setup_venv.sh"

# The slow ones measure memory and need the machine to themselves. In their order files fill the processes
# evenly; reordered, those of one long test would come last.
options=(-m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder)
if [[ "${1:-}" == --slow ]]; then
    options=()
    shift
fi
cd "$root"
exec python -m pytest ${options[@]+"${options[@]}"} "$@"
