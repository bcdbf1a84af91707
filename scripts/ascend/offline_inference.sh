#!/usr/bin/env bash
# Measure an experiment on an Ascend NPU without TensorFlow: convert its generator with ATC, run it
# with msame on the test images, and compute PSNR and SSIM. Run where output/ is.
set -euo pipefail

usage() {
    cat <<END
usage: offline_inference.sh --experiment_name=NAME [--key=value ...]

  --experiment_name=NAME   folder below output/, or a path such as models/toy
  --data_path=DIR          data folder; default: the one the experiment was trained with
  --img="N N ..."          1-based list positions of the images; default: the test split
  --test_int=X             intensity of the edits, default 2
  --soc_version=CHIP       processor to convert for, default Ascend910 (see: npu-smi info)
  --output_dir=DIR         folder of all files, default: offline in the experiment
  -h, --help               this text

The environment variable PYTHON selects the interpreter, default python3.
END
}

fail() {    # fail STATUS MESSAGE
    echo "error: $2" >&2
    exit "$1"
}

step() {    # step COMMAND...: say what is run, and run it
    echo >&2
    printf '$' >&2
    printf ' %q' "$@" >&2
    echo >&2
    "$@"
}

experiment_name='' data_path='' img='' test_int=2 soc_version=Ascend910 output_dir=''
for argument in "$@"; do
    value=${argument#*=}
    case $argument in
    -h | --help) usage; exit 0 ;;
    --experiment_name=*) experiment_name=$value ;;
    --data_path=*) data_path=$value ;;
    --img=*) img=$value ;;
    --test_int=*) test_int=$value ;;
    --soc_version=*) soc_version=$value ;;
    --output_dir=*) output_dir=$value ;;
    *) fail 2 "$argument: unknown option, expected --key=value (see --help)" ;;
    esac
done
if [[ -z $experiment_name ]]; then
    fail 2 '--experiment_name=NAME is missing (see --help)'
fi

python=${PYTHON:-python3}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
case $experiment_name in
*/* | . | ..) folder=$experiment_name ;;    # as stgan/config.py has it
*) folder=output/$experiment_name ;;
esac
output_dir=${output_dir:-$folder/offline}
if ! command -v "$python" >/dev/null; then
    fail 2 "$python: no such interpreter; name one in the environment variable PYTHON"
fi

missing=''
for tool in atc msame; do
    command -v "$tool" >/dev/null || missing+="${missing:+ and }$tool"
done
if [[ -n $missing ]]; then
    cat >&2 <<END
error: $missing not on PATH. atc comes with CANN (source its set_env.sh), msame is built from
Ascend's tools repository. These steps need neither and run on any machine: scripts/export.py,
scripts/ascend/img2bin.py and, once msame's results are there, scripts/ascend/bin2img.py and
psnr_ssim.py.
END
    exit 2
fi

model=$output_dir/$(basename "$folder")
bins=$output_dir/bins
sheets=$output_dir/sheets
# A folder of its own for each run: what an earlier one left must not pass for new results.
results=$output_dir/msame_$(date +%Y%m%d_%H%M%S)_$$

options=("--experiment_name=$experiment_name" --output_dir "$bins" --test_int "$test_int")
if [[ -n $data_path ]]; then
    options+=(--dataroot "$data_path")
fi
if [[ -n $img ]]; then
    read -ra positions <<<"$img"
    options+=(--img "${positions[@]}")
fi

# Static shapes: an NPU compiles a model for each.
exported=$(step "$python" "$root/scripts/export.py" "--experiment_name=$experiment_name" \
    --format pb --batch_size 1 --output "$model.pb")
echo "$exported"
input_shape=$(sed -n 's/^input_shape *//p' <<<"$exported")
step atc --model="$model.pb" --framework=3 --output="$model" --soc_version="$soc_version" \
    --input_shape="$input_shape"
step "$python" "$root/scripts/ascend/img2bin.py" "${options[@]}"
mkdir -p "$results"
step msame --model "$model.om" --output "$results" --outfmt BIN \
    --input "$bins/input1,$bins/input2,$bins/input3"
# msame makes a folder below, whose name depends on its version.
first=$(find "$results" -name 0_0_output_0.bin)
if [[ -z $first ]]; then
    fail 1 "$results: msame left no results there"
fi
step "$python" "$root/scripts/ascend/bin2img.py" --bin_dir "$bins" \
    --result_dir "$(dirname "$first")" --output_dir "$sheets"
step "$python" "$root/psnr_ssim.py" --img_dir "$sheets"
printf 'attribute accuracy: %q %q --img_dir %q\n' "$python" "$root/att_classification/test.py" \
    "$sheets"
echo "no longer needed: $bins $results"
