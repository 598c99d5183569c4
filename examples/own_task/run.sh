#!/usr/bin/env bash
# Train, score and use a task of one's own. Here the photos are synthetic; with real ones, replace the first line by
#   seglab prepare my_photos "$out/data" --task outfit.toml      # my_photos/images/*.jpg, my_photos/masks/*.png
# Usage: examples/own_task/run.sh [FOLDER]
set -euo pipefail
task=$(dirname "$0")/outfit.toml
out=${1:-outfit}

seglab synth "$out/data" --task "$task" -n 60 --size 96
seglab train --task "$task" --data "$out/data" --recipe smoke --out "$out/run" --resume
seglab evaluate --model "$out/run" --data "$out/data" --fail-under iou.person=0.2
seglab predict --model "$out/run" "$out/data/test/images" --format overlay -o "$out/overlays"
