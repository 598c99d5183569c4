#!/usr/bin/env bash
# A smoke test of the whole road without a download, for a CI job: about a minute on two CPU cores.
# Usage: examples/ci_smoke.sh [TASK] [FOLDER]
set -euo pipefail
task=${1:-clothes}
out=${2:-smoke}

seglab synth "$out/data" --task "$task" -n 60 --size 96
seglab train --task "$task" --data "$out/data" --recipe smoke --out "$out/run" --resume
seglab evaluate --model "$out/run" --data "$out/data" --fail-under miou=0.2 --json > "$out/scores.json"
seglab predict --model "$out/run" "$out/data/test/images" -o "$out/masks" --json > "$out/photos.jsonl"
seglab cutout --model "$out/run" "$out/data/test/images" -o "$out/cutouts"
