#!/usr/bin/env bash
# Builds the image in which Gradescope grades: Python 3.11 or newer, and the packages with all that they need.
#
# No GPU is needed: with PyTorch's builds for CPUs in place of the default ones, the image is gigabytes smaller.
set -euo pipefail
ROOT="${AUTOGRADER_ROOT:-/autograder}"

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

export DEBIAN_FRONTEND=noninteractive
apt-get update
apt-get install -y python3 python3-venv
PYTHON=python3
if ! new_enough "$PYTHON"; then
    apt-get install -y python3.11 python3.11-venv
    PYTHON=python3.11
fi
new_enough "$PYTHON" || { echo "Python 3.11 or newer is needed: choose a newer base image" >&2; exit 1; }

"$PYTHON" -m venv "$ROOT/venv"
"$ROOT/venv/bin/python" -m pip install --no-cache-dir "$ROOT/source/packages"
"$ROOT/venv/bin/autograder" doctor || echo "Submissions are not isolated here: see ISOLATION in run_autograder"
