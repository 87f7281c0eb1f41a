#!/usr/bin/env bash
# with_pypi.sh VENV "PACKAGE..." SCRIPT.py ARGUMENTS...: runs a Python script with packages of PyPI in a virtual environment, which
# is made once. TOROID_TEST_VENV names one that has them already.
set -euo pipefail
venv=${TOROID_TEST_VENV:-$1}
read -r -a packages <<<"$2"
shift 2
if [ ! -x "$venv/bin/python" ] || { [ -z "${TOROID_TEST_VENV:-}" ] && [ ! -f "$venv/.complete" ]; }; then
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "${packages[@]}"
  touch "$venv/.complete"
fi
exec "$venv/bin/python" "$@"
