#!/usr/bin/env bash
# A pipeline from a folder of photos: masks, then cutouts of the photos that show somebody, a thumbnail made on a pipe, and
# one COCO file for other programs. Data goes through files and pipes, what people should know to stderr. Started again, it
# does what is new: finished photos are left alone. A bad photo is named and passed over, and makes the exit code 1.
# Usage: examples/pipeline.sh MODEL PHOTOS FOLDER [LEAST SHARE OF THE PICTURE]
set -euo pipefail
model=$1
photos=$2
out=$3
least=${4:-0.05}
bad=0
mkdir -p "$out"

# Exit code 1: finished, but some photos failed. Everything else that is not 0 ends the pipeline here.
seglab predict --model "$model" "$photos" -o "$out/masks" --skip-existing --json > "$out/photos.jsonl" || bad=$?
[ "$bad" -le 1 ] || exit "$bad"

# A line of JSON a photo. Which of the new ones show enough of somebody?
python3 -c '
import json, sys
for photo in map(json.loads, sys.stdin):
    background, *classes = photo.get("classes", {"": {}}).values()
    if sum(found["share"] for found in classes) > float(sys.argv[1]):
        print(photo["input"])
' "$least" < "$out/photos.jsonl" > "$out/somebody.txt"
echo "$(wc -l < "$out/somebody.txt") of $(wc -l < "$out/photos.jsonl") photos are new and show somebody" >&2

# @LIST is a file with a path a line; - is a photo or a picture on a pipe.
if [ -s "$out/somebody.txt" ]; then
  seglab cutout --model "$model" "@$out/somebody.txt" -o "$out/cutouts" --crop --margin 5%
  first=$(head -n 1 "$out/somebody.txt")
  seglab cutout --model "$model" - -o - --format jpg --background white --square --size 128 < "$first" > "$out/thumbnail.jpg"
fi

seglab predict --model "$model" "$photos" -o "$out/coco" --format coco --skip-existing || bad=$?
exit "$bad"
