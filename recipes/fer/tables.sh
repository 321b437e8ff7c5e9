#!/usr/bin/env bash
# Every setting, condition and seed, and the tables.
#
#   recipes/fer/tables.sh DATA [recipes/fer/configs | recipes/fer/configs/gpu]
#
# DATA holds fer2013/, lfw_expressions/ and london_faces/. The first seed makes faces, synthetics and
# gate nets, the others run PARALLEL at a time (1). What is in the CSV is not run again.
set -euo pipefail
data=${1:?folder that holds fer2013/, lfw_expressions/ and london_faces/}
configs=${2:-recipes/fer/configs}
out=${OUT:-recipes/fer/fer.csv} work=${WORK:-work/fer} seeds=${SEEDS:-5} parallel=${PARALLEL:-1}
python=${PYTHON:-python}

fer="$data/fer2013/train.parquet" lfw="$data/lfw_expressions/train.parquet@detect"
test_fer="fer=$data/fer2013/validation.parquet" test_lfw="lfw=$lfw"
test_london="london=$data/london_faces/train.parquet@detect"

# $1: setting; $2: conditions; the rest: sets
run() {
  local setting=$1 conditions=() condition
  for condition in $2; do conditions+=(--condition "$condition"); done
  shift 2
  [ -f "$configs/$setting.yaml" ] || return 0
  local command=("$python" -m recipes.fer.train --config "$configs/$setting.yaml"
    "$@" "${conditions[@]}" --work "$work" --out "$out" --workers "$(nproc)")
  "${command[@]}" --seeds 1
  seq 1 $((seeds - 1)) | xargs -P "$parallel" -I SEED "${command[@]}" --seeds 1 --first-seed SEED
}

plain="none flip_crop randaugment strong mixup cutmix balanced_sampling balanced_loss"
plain="$plain strong_balanced strong_balanced_loss randaugment_balanced mixup_balanced"
plain="$plain strong_part_balanced strong_cutmix cutmix_balanced strong_cutmix_balanced extra_noise extra_classical"
plain="$plain extra_noise_balanced extra_classical_balanced"
with="strong+transfer strong+pixel strong+unet_cgan strong+transfer:own strong_part_balanced+transfer"
with="$with cutmix_balanced+transfer strong_balanced+transfer strong_balanced+pixel strong_balanced+unet_cgan"
with="$with strong_balanced+transfer:own strong_balanced+emotiongan strong_balanced+decoupled"
with="$with strong_balanced+fevgan"

run fer2013 "$plain $with" --train "$fer" --test "$test_fer" --test "$test_lfw" --test "$test_london"
run fer2013_10pct "$plain $with" \
  --train "$fer" --test "$test_fer" --test "$test_lfw" --test "$test_london"
run fer2013_2pct "strong cutmix strong+transfer strong+unet_cgan" \
  --train "$fer" --test "$test_fer" --test "$test_lfw" --test "$test_london"
run lfw "$plain $with" --train "$lfw" --test "$test_fer" --test "$test_london"
run fer2013_tail "$plain $with" \
  --train "$fer" --test "$test_fer" --test "$test_lfw" --test "$test_london"

"$python" -m recipes.fer.table "$out"
