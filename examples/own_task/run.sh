#!/usr/bin/env bash
# From a folder of photos and masks to a model, for a task of one's own. PHOTOS holds images/ and masks/ of the same names;
# masks are PNGs of class ids, or in the task's colours. Without PHOTOS, some are drawn.
# Usage: examples/own_task/run.sh [FOLDER] [PHOTOS]
set -euo pipefail
task=$(dirname "$0")/outfit.toml
out=${1:-outfit}
photos=${2:-$out/photos}

if [ ! -d "$photos" ]; then
  seglab synth "$out/drawn" --task "$task" -n 60 --size 96
  mkdir -p "$photos/images" "$photos/masks"
  cp "$out"/drawn/*/images/* "$photos/images/"
  cp "$out"/drawn/*/labels/* "$photos/masks/"
fi

seglab prepare "$photos" "$out/data" --task "$task" --val 0.1 --test 0.1
seglab inspect "$out/data" --sheet "$out/data.png"
seglab train --task "$task" --data "$out/data" --recipe smoke --out "$out/run" --resume
seglab evaluate --model "$out/run" --data "$out/data" --fail-under iou.person=0.2
seglab predict --model "$out/run" "$out/data/test/images" --format overlay -o "$out/overlays"
