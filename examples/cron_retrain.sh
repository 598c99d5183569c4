#!/usr/bin/env bash
# Train anew every night, and serve the new model if it passes a bar and is better than the one that is served.
# A crontab line, at two o'clock (cron knows no environment: name paths in full, and put seglab on the PATH):
#   0 2 * * *  PATH=/opt/seglab/bin:$PATH cron_retrain.sh person /data/person /srv/models/person 4h 0.6 >> /var/log/retrain.log 2>&1
# A second start while the first is running exits 5 and names it; a night that was cut short goes on when started again
# on the same day. Exit codes: 0 a new model is served; 1 it is not good enough, the old one stays; others: see the README.
# Usage: examples/cron_retrain.sh TASK DATA SERVED [TIME] [LEAST MEAN IOU] [OPTIONS OF seglab train]
set -euo pipefail
task=$1
data=$2
served=$3
limit=${4:-4h}
least=${5:-0.6}
run=${RUNS:-runs}/$task-$(date +%F)

mkdir -p "$(dirname "$run")"
seglab train --task "$task" --data "$data" --out "$run" --resume --time-limit "$limit" "${@:6}" --json > "$run.train.json" &&
  seglab evaluate --model "$run" --data "$data" --fail-under miou="$least" --json > "$run.scores.json" &&
  seglab promote "$run" "$served" --metric miou --min-gain 0.005 --baseline "$served" --data "$data" --keep --json > "$run.promotion.json"
