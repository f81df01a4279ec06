#!/usr/bin/env bash
# Makes the virtual environment: torch first and pinned, then the rest, every version from constraints.txt.
set -euo pipefail
venv=$1
python=${PYTHON:-python3}
cd "$(dirname "$0")/.."

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "monoscope needs Python 3.11 or newer; $python is $("$python" --version 2>&1). Set PYTHON=python3.12, say." >&2
  exit 1
fi
if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
  if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
  else
    echo "Python's venv module is missing; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2
    exit 1
  fi
fi
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
pip() { "$venv/bin/python" -m pip --disable-pip-version-check -q "$@"; }

torch=$(grep -E '^torch==' constraints.txt)
echo "setting up $venv ($torch first; a minute or two)" >&2
pip install "$torch"
if [ "$(uname)" = Linux ] && "$venv/bin/python" -m pip list 2>/dev/null | grep -qi '^nvidia-' && ! command -v nvidia-smi >/dev/null; then
  echo "note: pip fetched CUDA libraries although no NVIDIA card is here; for the small CPU build see the pytorch website's install page, and run make setup again" >&2
fi
pip install -c constraints.txt setuptools wheel
pip install -c constraints.txt --no-build-isolation -e ".[${EXTRAS}]"
