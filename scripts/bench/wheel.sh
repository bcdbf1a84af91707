#!/usr/bin/env bash
# Build the wheel, install it into new environments, and use its commands there.
#
#     bash scripts/bench/wheel.sh PYTHON...
#
# Each PYTHON is an interpreter, such as /usr/bin/python3.11. Takes minutes: every environment gets a
# TensorFlow. The first one builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:--h}" in -*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;; esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$1" -m venv "$work/build"
"$work/build/bin/pip" install -q build
"$work/build/bin/python" -m build --outdir "$work/dist" . >"$work/build.log" 2>&1 || {
    tail -n 20 "$work/build.log" >&2; exit 1; }
ls -l "$work/dist"

cd "$work"
for python; do
    rm -rf env use
    "$python" -m venv env
    env/bin/pip install -q "$work"/dist/*.whl
    mkdir use
    (
        cd use
        stgan=../env/bin/stgan
        model=$(../env/bin/python -c 'from stgan import commands; print(commands.ROOT)')/models/toy
        "$stgan" --version
        "$stgan" make_toy_celeba data --images 60 2>/dev/null
        "$stgan" test --experiment_name "$model" --dataroot data --img 1 2 3 --output_dir sheets \
            --test_int 2 2>/dev/null
        "$stgan" psnr_ssim --img_dir sheets 2>/dev/null
        "$stgan" train --experiment_name mine --dataroot data --img_size 64 --enc_dim 16 \
            --dec_dim 16 --stu_dim 16 --dis_dim 16 --dis_fc_dim 16 --batch_size 4 --n_d 1 \
            --epoch 1 --init_checkpoint "$model" 2>/dev/null
        "$stgan" report --experiment_name mine
    )
    echo "== works: $("$python" --version), $(env/bin/pip list 2>/dev/null | grep -i '^tensorflow ')"
done
