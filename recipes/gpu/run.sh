#!/usr/bin/env bash
# Run steps on a machine with a GPU and without a network, each under a time limit of its own:
#
#     recipes/gpu/run.sh tests throughput
#
# PACK   folder that recipes.gpu.pack wrote (.gpu)      OUT     folder for what comes of it (work/gpu)
# DEVICE cuda or cpu (cuda)                             TINY=1  a try of a few seconds for each step
# PYTHON the interpreter (python3)                      TRAIN   what `systems` trains of what is packed
#                                                               ("unet_cgan fevgan"; all)
# A step that fails or runs out of time does not keep the next from running.
set -u
cd "$(dirname "$0")/../.."
PACK=${PACK:-.gpu} OUT=${OUT:-work/gpu} DEVICE=${DEVICE:-cuda} TINY=${TINY:-} TRAIN=${TRAIN:-} PYTHON=${PYTHON:-python3}

# step: minutes that it is told, and seconds after which it is ended
declare -A MINUTES=([tests]=1.5 [throughput]=2 [systems]=5 [tables]=5)
declare -A LIMIT=([tests]=110 [throughput]=150 [systems]=345 [tables]=330)
if [ -n "$TINY" ]; then
  MINUTES=([tests]=1 [throughput]=1.5 [systems]=0.05 [tables]=0.5)
  LIMIT=([tests]=240 [throughput]=240 [systems]=240 [tables]=240)
fi

mkdir -p "$OUT"
SUMMARY=$OUT/summary.txt LOG=$OUT/log.txt
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
for wheel in "$PACK"/wheels/*.whl; do
  [ -e "$wheel" ] || continue
  name=$(basename "$wheel"); name=${name%%-*}
  "$PYTHON" -c "import $name" 2>/dev/null || "$PYTHON" -m zipfile -e "$wheel" "$site"
done
export PYTHONPATH=$PWD:$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
[ "$DEVICE" = cpu ] && export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

command_of() {
  local step=$1 minutes=${MINUTES[$1]}
  case $step in
    tests)
      export EXPRAUG_TEST_DEVICE=$DEVICE
      if [ -n "$TINY" ]; then
        "$PYTHON" -m pytest -q -p no:cacheprovider tests/cuda/test_cuda_pipeline.py -k 'means or alignment or pixel'
      else
        "$PYTHON" -m pytest -q -p no:cacheprovider -rfE -s --tb=short --durations=8 \
          tests/cuda/test_cuda_pipeline.py
      fi ;;
    throughput)
      "$PYTHON" -m recipes.benchmarks.throughput --out "$OUT/throughput.csv" --device "$DEVICE" \
        --minutes "$minutes" ${TINY:+--tiny --synthesizer pixel} ;;
    systems)
      "$PYTHON" -m recipes.gpu.systems run --pack "$PACK/systems" --out "$OUT" \
        --minutes "$minutes" --device "$DEVICE" ${TINY:+--tiny} ${TRAIN:+$(printf -- "--train %s " $TRAIN)} ;;
    tables)
      "$PYTHON" -m recipes.fer.tables "$PACK/tables" --out "$OUT/tables.csv" \
        --minutes "$minutes" --device "$DEVICE" ${TINY:+--steps 4 --seeds 1 --batch 16 --setting ferplus --condition none --condition "transfer 6/64"} ;;
  esac
}
export -f command_of

failed=0
for step in "$@"; do
  if [ -z "${LIMIT[$step]:-}" ]; then
    echo "$step: no such step; there are ${!LIMIT[*]}" | tee -a "$SUMMARY"; failed=1; continue
  fi
  begun=$SECONDS
  echo "== $step on $DEVICE" >>"$LOG"
  # a group of its own, so that what it starts ends with it
  setsid bash -c "$(declare -p MINUTES); $(declare -f command_of); PYTHON='$PYTHON' PACK='$PACK' OUT='$OUT' DEVICE='$DEVICE' TINY='$TINY' TRAIN='$TRAIN'; command_of $step" >>"$LOG" 2>&1 &
  group=$!
  code=
  while kill -0 "$group" 2>/dev/null; do
    if [ $((SECONDS - begun)) -ge "${LIMIT[$step]}" ]; then
      kill -TERM -- "-$group" 2>/dev/null; sleep 5; kill -KILL -- "-$group" 2>/dev/null
      code=124; break
    fi
    sleep 0.5
  done
  wait "$group" 2>/dev/null; ended=$?
  code=${code:-$ended}
  case $code in 0) how=done ;; 124) how="ended after ${LIMIT[$step]} s" ;; *) how="failed ($code)" ;; esac
  [ "$code" = 0 ] || failed=1
  last=$(tail -n 1 "$LOG" | cut -c 1-150)
  echo "$step: $how, $((SECONDS - begun)) s; $last" | tee -a "$SUMMARY"
done
exit $failed
