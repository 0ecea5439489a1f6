#!/usr/bin/env bash
# Make a virtual environment that has pip: tools/make_venv.sh DIRECTORY [PYTHON]
# Copes with machines where `python3 -m venv` cannot install pip (Debian without python3-venv).
set -euo pipefail

directory=$1
wanted=${2:-}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

python=
# python3 first: it is the one the user means. A version manager's shim may exist and yet not run, so each is tried.
for candidate in ${wanted:-python3 python3.14 python3.13 python3.12 python3.11 python}; do
    if new_enough "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "Headgate needs Python 3.11 or newer; ${wanted:-python3} here is: $("${wanted:-python3}" --version 2>&1 || true)" >&2
    echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..." >&2
    exit 1
fi
if ! command -v "${CC:-cc}" >/dev/null && ! command -v gcc >/dev/null; then
    echo "Headgate's engine is compiled: a C compiler is needed (Debian: apt-get install gcc python3-dev)." >&2
    exit 1
fi

has_pip() { "$directory/bin/python" -m pip --version >/dev/null 2>&1; }

echo "Making $directory with $("$python" --version) …"
trap 'rm -rf "$directory"' ERR
if ! "$python" -m venv "$directory" >/dev/null 2>&1 || ! has_pip; then
    rm -rf "$directory"
    # No ensurepip: an environment without pip, and the pip of the machine puts one in.
    "$python" -m venv --without-pip "$directory" >/dev/null 2>&1 || true
    if [ -x "$directory/bin/python" ] && "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m pip --quiet --python "$directory/bin/python" install pip
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet "$directory"
    elif command -v uv >/dev/null; then
        uv venv --quiet --clear --seed --python "$python" "$directory"
    fi
fi
if ! has_pip; then
    rm -rf "$directory"
    echo "$python cannot make a virtual environment with pip in it." >&2
    echo "Install what is missing (Debian: apt-get install python3-venv), then try again." >&2
    exit 1
fi
