#!/usr/bin/env bash
# Remake the weights that come with seglab, from prepared datasets, and measure them.
#
#   examples/make_weights.sh PREPARED OUT [TASK...] [-- OPTIONS OF seglab train]
#
# PREPARED holds what `seglab prepare` made, each with --val 0.1 --test 0.1:
#   person/          Human-Segmentation        clothes/  Clothing Co-Parsing, 4 classes
#   clothes_person/  the same photos, persons  garments/ the same photos, 17 kinds (--task weights/garments.toml)
#   body/            Pascal-part, 7 classes    face/, parsing/  for those two, which are measured but not shipped
# The network of every task starts from the one of `person`, which is trained in any case, from all three together; the one
# of clothes from the one of body parts.
# OUT gets the runs, OUT/TASK-scores.json the scores of the test split at the photos' own size, and OUT/weights/TASK the
# bundles to ship, each with its card.
# A run that is there is continued, so the same command goes on after an interruption.
# On two CPU cores person takes about five hours, body two hours and a quarter more, clothes half an hour more than body.
set -euo pipefail
prepared=${1:?usage: make_weights.sh PREPARED OUT [TASK...] [-- OPTIONS]}
out=${2:?usage: make_weights.sh PREPARED OUT [TASK...] [-- OPTIONS]}
shift 2
tasks=()
while (($#)) && [[ $1 != -- ]]; do
  tasks+=("$1")
  shift
done
(($# == 0)) || shift
((${#tasks[@]})) || tasks=(person clothes body)
recipes=$(cd "$(dirname "$0")/weights" && pwd)

# stage RUN TASK DATA RECIPE [--init MODEL]
stage() {
  local run=$1 task=$2 data=$3 recipe=$4
  shift 4
  seglab train --task "$task" --data "$data" --recipe "$recipes/$recipe.toml" --out "$out/$run" --resume "$@" \
    "${options[@]}"
}
options=("$@")

seglab join "$out/people" "$prepared/person" "$prepared/clothes_person" "$prepared/body" --task person --link hard
stage person-1 person "$out/people" person-1
stage person-2 person "$out/people" person-2 --init "$out/person-1"

# guessed DATASET MODEL: Pascal-part and, with parts that MODEL guesses within their labels, the other photos of people
guessed() {
  if [[ ! -f $out/$1/dataset.json ]]; then
    python3 "$recipes/parts_within.py" "$out/$2" "$out/$1-guessed" "$prepared/garments" "$prepared/person"
    seglab prepare "$out/$1-guessed" "$out/$1-more" --task body --val 0 --test 0
    seglab join "$out/$1" "$prepared/body" "$out/$1-more" --task body --link hard
  fi
}

body_parts() {
  stage body-1 body "$prepared/body" body-1 --init "$out/person-2"
  guessed bodies-1 body-1
  stage body-2 body "$out/bodies-1" body-2 --init "$out/body-1"
  guessed bodies-2 body-2
  stage body-3 body "$out/bodies-2" body-3 --init "$out/body-2"
}

for task in "${tasks[@]}"; do
  data=$prepared/$task
  case $task in
    person)
      stage person-3 person "$out/people" person-3 --init "$out/person-2"
      run=person-3 data=$out/people
      ;;
    clothes)
      body_parts
      stage garments-1 "$recipes/garments.toml" "$prepared/garments" garments-1 --init "$out/body-3"
      stage clothes-1 clothes "$data" clothes-1 --init "$out/garments-1"
      run=clothes-1
      ;;
    body)
      body_parts
      run=body-3
      ;;
    *)
      stage "$task-1" "$task" "$data" "$task-1" --init "$out/person-2"
      run=$task-1
      ;;
  esac
  about=()
  if [[ -f $recipes/about-$task.toml ]]; then
    about=(--about "$recipes/about-$task.toml")
  fi
  seglab export "$out/$run" "$out/weights/$task" --format bundle --force "${about[@]}"
  seglab evaluate --model "$out/weights/$task" --data "$data" --split test --json > "$out/$task-scores.json"
  if [[ -f $recipes/notes-$task.md ]]; then
    python3 "$recipes/card.py" "$out/weights/$task" "$out/$task-scores.json" "$recipes/notes-$task.md" \
      > "$out/weights/$task/README.md"
  fi
done
