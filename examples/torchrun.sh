#!/usr/bin/env bash
# Train in several processes of this machine, one a GPU; without GPUs they share the processor. Each process learns from
# batches of its own, so 4 processes of batch size 8 make steps of 32: raise --lr with the number, or lower --batch-size.
# Processes that die are started again and go on from what was saved last; Ctrl-C saves, and the same line continues.
# Usage: examples/torchrun.sh [PROCESSES] [FOLDER]
#
# On several machines, the same line on each of them (FIRST is the name of one; data and run on a disk that all see):
#   torchrun --nnodes 2 --nproc-per-node 8 --max-restarts 3 --rdzv-backend c10d --rdzv-id run1 --rdzv-endpoint FIRST:29500 \
#     -m seglab train --task person --data data/person --out runs/person --resume
set -euo pipefail
processes=${1:-2}
out=${2:-several}

seglab synth "$out/data" --task person -n 30 --size 96
torchrun --standalone --nproc-per-node "$processes" --max-restarts 3 \
  -m seglab train --task person --data "$out/data" --recipe smoke --epochs 8 --out "$out/run" --resume
seglab evaluate --model "$out/run" --data "$out/data" --json > "$out/scores.json"
