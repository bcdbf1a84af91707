#!/bin/sh
# Print the Python to make a virtual environment with: `find_python.sh current` for the newest
# TensorFlow, `find_python.sh classic` for TensorFlow 1.15.

fits() {    # fits VERSIONS PYTHON: does PYTHON run, with venv, and is it one of VERSIONS?
    "$2" -c 'import ensurepip, sys, venv
sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1].split())' "$1" >/dev/null 2>&1
}

first() {   # first VERSIONS PYTHON...: print the first that fits
    versions=$1
    shift
    for python in "$@"; do
        if fits "$versions" "$python"; then
            echo "$python"
            exit 0
        fi
    done
}

case $1 in
current)
    first '3.9 3.10 3.11 3.12 3.13' python3 python3.13 python3.12 python3.11 python3.10 python3.9
    first '3.7' python3 python3.7
    echo 'No usable Python found: expected Python 3.9 to 3.13 or 3.7 as python3 or python3.x, with' \
        'venv (on Debian and Ubuntu: apt install python3-venv), or its path in PYTHON=...' >&2
    ;;
classic)
    if [ -n "$PYTHON37" ]; then
        first '3.7' "$PYTHON37"
        echo "PYTHON37=$PYTHON37 is no Python 3.7 with venv" >&2
        exit 2
    fi
    first '3.7' python3.7
    first '3.7' "$(uv python find --no-python-downloads 3.7 2>/dev/null)"
    first '3.7' "$(pyenv root 2>/dev/null)"/versions/3.7*/bin/python
    echo 'No Python 3.7 found, which TensorFlow 1.15 needs: looked for PYTHON37, python3.7, uv and' \
        'pyenv. Install one (conda create -n py37 python=3.7; pyenv install 3.7) and name it:' \
        'make test-tf1 PYTHON37=/path/to/python3.7' >&2
    ;;
*)
    echo 'usage: find_python.sh current|classic' >&2
    ;;
esac
exit 2
