#!/usr/bin/env bash
# Train the models in models/: the toy model and the classifier that judges it.
#
#     bash scripts/toy/train_model.sh [FOLDER]
#
# Hours on two CPU cores (docs/toy_model.md). Whatever stops it, the same command goes on. FOLDER
# (output/toy_model) receives data/, toy/, again/ and toy_classifier/, and at the end models/.
set -euo pipefail
cd "$(dirname "$0")/../.."
case "${1:-}" in -*) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//p;}' "$0"; exit ;; esac
folder=${1:-output/toy_model}
python=${PYTHON:-python}

"$python" scripts/toy/make_toy_celeba.py "$folder/data" --images 20000 --seed 1
"$python" att_classification/train.py --dataroot "$folder/data" --img_size 32 \
    --epoch 4 --batch_size 32 --lr 0.001 --output_dir "$folder/toy_classifier"
network='--img_size 64 --enc_dim 16 --dec_dim 16 --stu_dim 16 --dis_dim 16 --dis_fc_dim 256'
shared="--dataroot $folder/data $network --batch_size 16 --lr 0.0005 --bn_decay 0.99
        --precision mixed --n_sample 8 --test_int 2"
# One D update per G update brings reconstructions soon; edits become faces only with five.
# shellcheck disable=SC2086
"$python" train.py --experiment_name "$folder/start" $shared --seed 1 --n_d 1 --epoch 4
# shellcheck disable=SC2086
"$python" train.py --experiment_name "$folder/toy" $shared --seed 2 --n_d 5 --epoch 19 \
    --init_epoch 15 --save_freq 250 --sample_freq 500 --init_checkpoint "$folder/start"
# Averaging the weights of two trainings, one from the other's, takes checkerboards and tints away.
# shellcheck disable=SC2086
"$python" train.py --experiment_name "$folder/again" $shared --precision high --seed 3 --n_d 5 \
    --batch_size 64 --epoch 34 --init_epoch 27 --save_freq 250 --sample_freq 500 \
    --init_checkpoint "$folder/toy"
"$python" scripts/toy/pack_model.py --experiment_name "$folder/again" --average_with "$folder/toy" \
    --classifier "$folder/toy_classifier" --output_dir "$folder/models"
