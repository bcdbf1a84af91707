#!/usr/bin/env bash
# Try the core tests on several Pythons and TensorFlows, and write docs/versions.md.
#
#     bash scripts/bench/matrix.sh PYTHON=TENSORFLOW...
#
# Each PYTHON is an interpreter, each TENSORFLOW a version, 2.15 meaning 2.15.*, such as
# /usr/bin/python3.9=2.15. Takes about ten minutes for each on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:--h}" in -*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1

for pair; do
    python=${pair%=*} version=${pair##*=}
    case $version in *.*.*) ;; *) version="$version.*" ;; esac
    rm -rf "$work/env"
    "$python" -m venv "$work/env"
    python=$work/env/bin/python
    "$python" -m pip install -q -e '.[dev]' "tensorflow==$version" 2>"$work/pip.log" || {
        tail -n 5 "$work/pip.log" >&2; exit 1; }
    said=$("$python" -m pytest -q -n auto --maxprocesses 2 --dist loadfile -m 'not slow' \
        tests/stgan/test_golden.py tests/stgan/test_training.py tests/stgan/test_survival.py \
        tests/stgan/test_editing.py tests/test_commands.py 2>&1 | tee "$work/tests.log" | tail -n 1)
    "$python" - "$said" >>"$work/rows" <<'EOF'
import re, sys
if sys.version_info < (3, 8):
    import importlib_metadata as metadata
else:
    from importlib import metadata
passed = re.sub(r' in .*|=+ ?', '', sys.argv[1])
names = 'tensorflow', 'numpy', 'protobuf', 'pillow', 'scikit-image'
print('|', sys.version.split()[0], '|', ' | '.join(map(metadata.version, names)), '|', passed, '|')
EOF
    tail -n 1 "$work/rows"
    grep -E '^(FAILED|ERROR)' "$work/tests.log" || true
done

{
    printf '%s\n' '# Versions' '' \
        'The core tests (golden arrays, training, resuming, editing, commands) on these; all tests run on Python 3.7 with' \
        'TensorFlow 1.15.5 and on Python 3.11 with the newest. Made by `bash scripts/bench/matrix.sh`.' '' \
        '| Python | TensorFlow | NumPy | protobuf | Pillow | scikit-image | core tests |' \
        '|---|---|---|---|---|---|---|'
    cat "$work/rows"
} >docs/versions.md
