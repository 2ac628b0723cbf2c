#!/bin/bash
# One run, trained by several machines that share a file system and let you in by ssh without a password:
#     HOSTS="node1 node2" PROCESSES=8 scripts/ssh_train.sh reacher_gpu data.path=/shared/reacher run=/shared/runs/reacher
# The clone or environment must lie at the same path on each; ENVIRONMENT is sourced there first (default .venv/bin/activate).
# Given again, it goes on from the newest checkpoint. A process that dies takes the others with it, and torchrun starts all of
# them again, up to 3 times. Ctrl-C stops all machines, which write a checkpoint.
# Not tried on a cluster yet: read it before you trust it with one.
set -euo pipefail

: "${HOSTS:?names the machines, the first being where they meet}"
processes="${PROCESSES:-gpu}"
environment="${ENVIRONMENT:-.venv/bin/activate}"
read -r -a hosts <<< "$HOSTS"
# One number for this start, so that what is left of an earlier one is not met.
meeting="$(date +%s)-$$"

command="cd $(printf %q "$PWD") && source $(printf %q "$environment") && exec torchrun \
--nnodes ${#hosts[@]} --nproc-per-node $processes --max-restarts 3 \
--rdzv-backend c10d --rdzv-id $meeting --rdzv-endpoint ${hosts[0]}:29500 \
-m worldjepa train$(printf ' %q' "$@")"

jobs=()
for host in "${hosts[@]}"; do
    # With a terminal there, so that the end of ssh is a signal to what it started.
    ssh -tt "$host" "$command" &
    jobs+=("$!")
done
trap 'kill -TERM "${jobs[@]}" 2>/dev/null || true' INT TERM

code=0
for job in "${jobs[@]}"; do
    wait "$job" || code=$?
done
exit "$code"
