#!/usr/bin/env bash
# Run the core tests on several Pythons and TensorFlows, and write docs/versions.md.
#
#     bash scripts/bench/matrix.sh PYTHON=TENSORFLOW...
#
# Each PYTHON is an interpreter, each TENSORFLOW a version, 2.15 meaning the newest 2.15.x, such as
# /usr/bin/python3.9=2.15. Each pair gets a new environment and takes minutes. Exits with 1 if a
# test failed, after the others have been tried; their names are printed.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:--h}" in -*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1
# What the networks compute, training, resuming, and the commands.
core='tests/stgan/test_golden.py tests/stgan/test_graph.py tests/stgan/test_training.py
      tests/stgan/test_survival.py tests/test_commands.py'
status=0

for pair; do
    python=${pair%=*} version=${pair##*=}
    case $version in *.*.*) ;; *) version="$version.*" ;; esac
    rm -rf "$work/env"
    "$python" -m venv "$work/env"
    python=$work/env/bin/python
    "$python" -m pip install -q -e . "tensorflow==$version" pytest pytest-xdist hypothesis \
        2>"$work/pip.log" || { tail -n 5 "$work/pip.log" >&2; exit 1; }
    # shellcheck disable=SC2086
    "$python" -m pytest -q -n auto --maxprocesses 2 --dist loadfile -m 'not slow' $core \
        >"$work/tests.log" 2>&1 || { status=1; grep -E '^(FAILED|ERROR)' "$work/tests.log" >&2; }
    "$python" - "$(tail -n 1 "$work/tests.log")" <<'END' | tee -a "$work/rows"
import re
import sys

if sys.version_info < (3, 8):
    import importlib_metadata as metadata
else:
    from importlib import metadata
counts = ', '.join(re.findall(r'\d+ (?:passed|failed|skipped|errors?)', sys.argv[1]))
names = ('tensorflow', 'numpy', 'protobuf', 'pillow', 'scikit-image', 'matplotlib', 'tqdm', 'rich')
cells = [sys.version.split()[0], *map(metadata.version, names), counts]
print('| ' + ' | '.join(cells) + ' |')
END
done

{
    cat <<'END'
# Versions

The core tests (golden arrays, the training graph, training, resuming, commands) on each Python with a TensorFlow for it.
All tests run on Python 3.7 with TensorFlow 1.15.5 and on Python 3.11 with the newest. Written by
`bash scripts/bench/matrix.sh`.

| Python | TensorFlow | NumPy | protobuf | Pillow | scikit-image | Matplotlib | tqdm | rich | core tests |
|---|---|---|---|---|---|---|---|---|---|
END
    cat "$work/rows"
} >docs/versions.md
exit $status
