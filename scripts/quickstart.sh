#!/usr/bin/env bash
# From nothing to a trained model, on a CPU and without any download but the packages:
#
#   bash scripts/quickstart.sh [--smoke] [--fresh] [FRAME…]
#
# Sets up .venv, renders the two domains of the synthetic benchmark, trains on domain a, evaluates on
# the test splits of a and b, and predicts on a test frame and on every FRAME (a picture file) given.
# All of it lies in outputs/quickstart afterward; what is there already is used, an interrupted
# training goes on.
#
#   --smoke  the same in two minutes, into outputs/smoke, always from the start, by another recipe: the network
#            of the paper, small and from random weights, by SRFT-GaLore; the model is no good
#   --fresh  deletes what a former run has left, and starts from the start
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
fail() {
    echo "quickstart.sh: $1" >&2
    exit 1
}

out=outputs/quickstart recipe=synthetic_compact fresh=false frames=()
data_a=(--patients 60 --frames 840) data_b=(--patients 30 --frames 300)
training=()
for argument in "$@"; do
    case "$argument" in
    --smoke)
        out=outputs/smoke recipe=synthetic_tiny fresh=true
        # One worker: starting a second takes longer than so few frames.
        data_a=(--patients 3 --frames 15 --workers 1) data_b=(--patients 3 --frames 9 --workers 1)
        training=(--budget.steps 10 --validation.every_steps 5 --checkpoint.every_steps 5)
        ;;
    --fresh) fresh=true ;;
    -*) fail "unknown option $argument: known are --smoke and --fresh" ;;
    *)
        [[ -f "$argument" ]] || fail "$argument is no file"
        frames+=("$(cd "$(dirname "$argument")" && pwd)/$(basename "$argument")")
        ;;
    esac
done

source "$root/scripts/setup_venv.sh"
cd "$root"
# Nothing below needs the Hub.
export HF_HUB_OFFLINE=1
# Progress bars on a terminal only.
[[ -t 2 ]] || export HF_DATASETS_DISABLE_PROGRESS_BARS=1

mkdir -p "$out"
# One quick start at a time, where the system has flock.
if command -v flock >/dev/null; then
    exec 8<"$out"
    flock --nonblock 8 || fail "another one is at work in $out"
fi
if [[ "$fresh" == true ]]; then
    find "$out" -mindepth 1 -delete
fi

echo "== Synthetic data" >&2
for domain in a b; do
    size_of_set="data_$domain[@]"
    liver-landmark data build synthetic --domain "$domain" "${!size_of_set}" --size 456x256 --seed 0 \
        --output "$out/data/$domain" || fail "rendering failed; to replace what a former version rendered: --fresh"
done

echo "== Training" >&2
# accelerate would count physical cores only, and use one thread where two are threads of one core.
accelerate launch --quiet --config_file hub_configs/accelerate/cpu.yaml \
    --num_cpu_threads_per_process "$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)" \
    -m liver_landmark train --config "$recipe" \
    --data.path "$out/data/a" --output_dir "$out" --resume auto ${training[@]+"${training[@]}"} ||
    fail "training failed; to replace what was trained with another recipe or data: --fresh"

echo "== Evaluation" >&2
for domain in a b; do
    liver-landmark evaluate --model "$out/best" --dataset "$out/data/$domain" --split test \
        --protocol synthetic --device cpu --output "$out/evaluation/$domain" --overwrite
done

echo "== Prediction" >&2
frame="$(python scripts/quickstart_steps.py frame "$out/data/a" "$out/frames")"
liver-landmark predict "$frame" ${frames[@]+"${frames[@]}"} --model "$out/best" --device cpu \
    --output "$out/overlays" --overwrite

echo "== Results" >&2
python scripts/quickstart_steps.py summary "$out"
