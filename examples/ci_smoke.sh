#!/usr/bin/env bash
# A smoke test of the whole road without a download, for a CI job: about a minute on two CPU cores. The gate is one that
# a network which finds nothing does not pass.
# Usage: examples/ci_smoke.sh [TASK] [FOLDER] [LEAST MEAN IOU WITHOUT THE BACKGROUND]
set -euo pipefail
task=${1:-person}
out=${2:-smoke}
least=${3:-0.25}

seglab synth "$out/data" --task "$task" -n 60 --size 96
seglab train --task "$task" --data "$out/data" --recipe smoke --out "$out/run" --resume
seglab evaluate --model "$out/run" --data "$out/data" --fail-under miou_foreground="$least" --json > "$out/scores.json"
seglab predict --model "$out/run" "$out/data/test/images" -o "$out/masks" --json > "$out/photos.jsonl"
seglab cutout --model "$out/run" "$out/data/test/images" -o "$out/cutouts"
