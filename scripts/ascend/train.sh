#!/usr/bin/env bash
# What train_{full,performance}_{1p,8p}.sh share: ModelZoo's arguments, environment, log and result
# files around train.py and train_mixed.py. Run where output/ is to be.
set -euo pipefail

kind=$1    # full or performance
ranks=$2   # 1; 8: as many as the rank table has
shift 2
name=train_${kind}_${ranks}p.sh

usage() {
    cat <<END
usage: $name --data_path=DIR [--key=value ...]

  --data_path=DIR          data folder (see README.md, CelebA)
  --ckpt_path=PATH         checkpoint whose weights a new run starts with
  --precision_mode=MODE    of the NPU, default allow_mix_precision; a mixed one is trained by
                           train_mixed.py, any other by train.py
  --over_dump=True         dump operators that overflow, into output/overflow_dump
  --data_dump_flag=True    dump all tensors of some steps, into output/data_dump
  --data_dump_step=STEPS   which, default 10
  --profiling=True         write profiles, into output/profiling
  --autotune=True          let CANN tune operators (auto_tune_mode RL,GA)
  --bind_core=True         keep to this rank's eighth of the cores
  --conda_name=NAME        conda environment to run in
  --device=DEVICE          npu (default), gpu or cpu
  --classifier_path=DIR    checkpoints/ of the attribute classifier, for the accuracy of
                           train_full_*.sh; default att_classification/checkpoints
  --batch_size=N           of each device, default 64
  --KEY[=VALUE]            any other flag of train.py, such as --epoch=1
  -h, --help               this text

END
    if ((ranks > 1)); then
        cat <<END
  --rank_table_file=FILE   the NPUs that train together, the same file on each of several servers;
                           default RANK_TABLE_FILE of the environment, else this server's NPUs
  --device_num=N           how many GPUs or CPU processes, default $ranks, where there are no NPUs

END
    else
        echo 'Device 0 is used unless ASCEND_DEVICE_ID says another.'
    fi
    echo 'The environment variable PYTHON selects the interpreter, default python3.'
}

fail() {    # fail STATUS MESSAGE
    echo "error: $2" >&2
    exit "$1"
}

is_true() {    # is_true KEY VALUE
    case ${2,,} in
    true) return 0 ;;
    false | '') return 1 ;;
    *) fail 2 "--$1=$2: expected True or False" ;;
    esac
}

data_path='' ckpt_path='' precision_mode=allow_mix_precision over_dump='' data_dump_flag=''
data_dump_step=10 profiling='' autotune='' bind_core='' conda_name='' device=npu
classifier_path='' batch_size=64 rank_table_file=${RANK_TABLE_FILE:-} device_num=$ranks others=()
for argument in "$@"; do
    key=${argument%%=*} value=${argument#*=}
    case $argument in
    -h | --help) usage; exit 0 ;;
    --*=*) read -ra words <<<"$value" ;;
    --*) words=() ;;
    *) fail 2 "$argument: expected --key=value (see --help)" ;;
    esac
    case ${key#--} in
    data_path | ckpt_path | precision_mode | over_dump | data_dump_flag | data_dump_step | \
        profiling | autotune | bind_core | conda_name | device | classifier_path | batch_size | \
        rank_table_file | device_num)
        [[ $argument == *=* ]] || fail 2 "$key: expected $key=value (see --help)"
        printf -v "${key#--}" %s "$value" ;;
    *)
        others+=("$key" ${words[@]+"${words[@]}"}) ;;
    esac
done
if [[ -z $data_path ]]; then
    fail 2 '--data_path=DIR is missing (see --help)'
fi

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
if [[ -n $conda_name ]]; then
    command -v conda >/dev/null || fail 2 "--conda_name=$conda_name: conda is not on PATH"
    # conda's own scripts read variables that may not be set.
    set +u
    eval "$(conda shell.bash hook)"
    conda activate "$conda_name" || fail 2 "--conda_name=$conda_name: no such environment"
    set -u
fi
python=${PYTHON:-python3}
if ! command -v "$python" >/dev/null; then
    fail 2 "$python: no such interpreter; name one in the environment variable PYTHON"
fi

# Of what runs on one device; several get theirs from scripts/launch.py.
unset RANK_TABLE_FILE
export RANK_SIZE=1 RANK_ID=0 JOB_ID=10087
export ASCEND_DEVICE_ID=${ASCEND_DEVICE_ID:-0} ASCEND_GLOBAL_LOG_LEVEL=${ASCEND_GLOBAL_LOG_LEVEL:-3}

script=train.py options=(--dataroot "$data_path" --device "$device")
case $precision_mode in
allow_mix_precision*) script=train_mixed.py ;;
esac
if [[ $device == npu ]]; then
    npu_options=("precision_mode=$precision_mode")
    if is_true autotune "$autotune"; then
        npu_options+=('auto_tune_mode=RL,GA')
    fi
    options+=(--npu_option "${npu_options[@]}")
elif is_true autotune "$autotune"; then
    fail 2 "--autotune=$autotune: needs --device=npu"
fi
if is_true over_dump "$over_dump"; then
    options+=(--over_dump --over_dump_path output/overflow_dump)
fi
if is_true data_dump_flag "$data_dump_flag"; then
    options+=(--data_dump --data_dump_path output/data_dump --data_dump_step "$data_dump_step")
fi
if is_true profiling "$profiling"; then
    options+=(--profiling --profiling_dump_path output/profiling)
fi
if [[ -n $ckpt_path ]]; then
    options+=(--init_checkpoint "$ckpt_path")
fi
options+=(--batch_size "$batch_size")

launch=()
if ((ranks > 1)) && [[ $device == npu ]]; then
    if [[ -z $rank_table_file ]]; then
        rank_table_file=output/rank_table.json
        address=$(hostname -I | cut -d' ' -f1)
        mkdir -p output
        "$python" "$root/scripts/ascend/rank_table.py" "$rank_table_file" \
            --server_id "${address:-127.0.0.1}"
    fi
    [[ -r $rank_table_file ]] || fail 2 "--rank_table_file=$rank_table_file: cannot be read"
    device_num=$(grep -o '"rank_id"' "$rank_table_file" | wc -l)
    launch=("$python" "$root/scripts/launch.py" --rank_table "$rank_table_file" --)
    options+=(--distribute hccl)
elif ((ranks > 1)); then
    launch=("$python" "$root/scripts/launch.py" -n "$device_num" --)
fi

if [[ $kind == performance ]]; then
    # 100 iterations or so of 5 D updates and 1 G update; no earlier run is gone on with.
    options+=(--epoch "$device_num" --train_image_num 38400 --clear)
fi
options+=(${others[@]+"${others[@]}"})

# As ModelZoo's tools expect: STGAN_bs64_1p_acc, STGAN_bs64_1p_perf.
case $kind in full) suffix=acc ;; *) suffix=perf ;; esac
case_name=STGAN_bs${batch_size}_${ranks}p_$suffix
folder=output/$ASCEND_DEVICE_ID
log=$folder/train_$ASCEND_DEVICE_ID.log
mkdir -p "$folder"

prefix=()
if is_true bind_core "$bind_core"; then
    # shellcheck disable=SC2016
    prefix=(bash -c 'rank=$((${RANK_ID:-0} % 8)) cores=$(nproc)
        first=$((rank * cores / 8)) last=$(((rank + 1) * cores / 8 - 1))
        exec taskset -c "$first-$((last > first ? last : first))" "$@"' bind_core)
fi

run() {    # run COMMAND...: with its output in the log; its exit status is ours
    { printf '$'; printf ' %q' "${@##"$root/"}"; echo; } | tee -a "$log"
    # In a session of its own, the command gets each signal once, and from here.
    setsid "$@" >>"$log" 2>&1 &
    local pid=$! signalled=1 status=0 stopped=0
    trap 'signalled=1 stopped=143; kill -TERM "$pid"' TERM
    trap 'signalled=1 stopped=130; kill -INT "$pid"' INT
    while ((signalled)); do
        signalled=0 status=0
        wait "$pid" || status=$?
    done
    trap - TERM INT
    if ((status || stopped)); then
        tail -n 1 "$log" >&2
        exit $((status ? status : stopped))
    fi
}

: >"$log"
echo "log: $log"
began=$SECONDS
run ${launch[@]+"${launch[@]}"} ${prefix[@]+"${prefix[@]}"} "$python" "$root/$script" \
    --experiment_name "$case_name" "${options[@]}"
seconds=$((SECONDS - began))
if ((ranks > 1)) && ! grep -q '^\[0\] ' "$log"; then
    echo 'trained; the server of rank 0 has the results'
    exit
fi
if [[ $kind == full ]]; then
    # Sheets made before the model was trained on are of no use.
    sheets=output/$case_name/sample_testing clear=()
    if [[ -e $sheets/sheet.json ]]; then
        newest=$(sed -n 's/^model_checkpoint_path: //p' "output/$case_name/checkpoints/checkpoint")
        grep -qF "\"checkpoint\": $newest" "$sheets/sheet.json" || clear=(--clear)
    fi
    run "$python" "$root/test.py" --experiment_name "$case_name" --test_int 2 \
        --device "$device" ${clear[@]+"${clear[@]}"}
    run "$python" "$root/psnr_ssim.py" --experiment_name "$case_name"
    classifier=${classifier_path:-$root/att_classification/checkpoints}
    if [[ -e $classifier/checkpoint || -n $classifier_path ]]; then
        run "$python" "$root/att_classification/test.py" --checkpoint "$classifier" \
            --img_dir "$sheets" --device "$device"
    fi
fi
RANK_SIZE=$device_num "$python" "$root/scripts/ascend/report_run.py" --experiment_name "$case_name" \
    --output_dir "$folder" --seconds "$seconds"
