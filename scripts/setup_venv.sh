#!/usr/bin/env bash
# Sets up .venv in the repository root with this package, editable, and its extras `train`, `demo` and
# `dev` in the versions of constraints.txt. A second run finds the stamp of the first and does nothing.
#
# Call it to set up; source it, as the other scripts do, to have .venv/bin first on PATH as well.
set -euo pipefail

_setup_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
_setup_venv="$_setup_root/.venv"

# All that decides what is installed; the root too, since neither scripts nor editable installs move.
_setup_wanted() {
    printf '%s\n' "$_setup_root" "extras: train,demo,dev"
    cat "$_setup_root/pyproject.toml" "$_setup_root/constraints.txt"
}

_setup_is_done() {
    [[ -x "$_setup_venv/bin/python" && -f "$_setup_venv/setup.stamp" ]] || return 1
    [[ "$(_setup_wanted)" == "$(cat "$_setup_venv/setup.stamp")" ]]
}

_setup_fail() {
    echo "setup_venv.sh: $1" >&2
    return 1
}

_setup_find_python() {
    local name
    for name in python3.11 python3 python3.12 python3.13 python3.14 python; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    _setup_fail "Python 3.11 or newer is needed, found $(python3 --version 2>/dev/null || echo none) on PATH"
}

# Whether there is an environment to install into: with pip, not moved, and no installation cut off in it.
_setup_is_usable() {
    [[ ! -e "$_setup_venv/setup.unfinished" ]] &&
        "$_setup_venv/bin/python" -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null &&
        grep --quiet --fixed-strings "$_setup_venv" "$_setup_venv/bin/activate"
}

_setup_install() {
    # Another set-up may have done it while this one waited for the lock.
    if _setup_is_done; then return; fi
    rm -f "$_setup_venv/setup.stamp"
    if ! _setup_is_usable; then
        local python
        python="$(_setup_find_python)" || return 1
        "$python" -m venv --clear "$_setup_venv" ||
            _setup_fail "$python -m venv failed: on Debian and Ubuntu it needs the package python3-venv" || return 1
    fi
    echo "Setting up .venv: a few minutes the first time" >&2
    touch "$_setup_venv/setup.unfinished"
    # Progress bars on a terminal only.
    local verbosity=--quiet
    if [[ -t 2 ]]; then verbosity=--progress-bar=on; fi
    (cd "$_setup_root" && .venv/bin/python -m pip install --disable-pip-version-check "$verbosity" \
        --constraint constraints.txt --editable '.[train,demo,dev]' >&2) ||
        _setup_fail "installing into .venv failed: see pip's messages above; the next run starts afresh" || return 1
    _setup_wanted >"$_setup_venv/setup.stamp.new"
    mv "$_setup_venv/setup.stamp.new" "$_setup_venv/setup.stamp"
    rm "$_setup_venv/setup.unfinished"
}

if ! _setup_is_done; then
    # One set-up at a time, where the system has flock; this file itself is the lock.
    (
        if command -v flock >/dev/null; then flock 9; fi
        _setup_install
    ) 9<"${BASH_SOURCE[0]}"
fi

export PATH="$_setup_venv/bin:$PATH"
# OpenMP threads that wait actively collapse when anything else uses a core.
export OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"
