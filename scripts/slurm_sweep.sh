#!/bin/bash
#SBATCH --job-name=sweep
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --output=sweep-%A-%a.log
# The runs of a grid, shared out over 16 jobs that share a file system; data first, since all of them take the same:
#     python scripts/sweep.py tasks --collect
#     sbatch scripts/slurm_sweep.sh tasks
# Task k runs every 16th run from the k-th. Preempted, or at the end of its time, it leaves a checkpoint, and is put into the queue
# again, where it goes on. Given again, for all tasks or for some (`sbatch --array=3,7 ...`), it runs what is missing.
# Not tried on a cluster yet: read it before you trust it with one.
set -euo pipefail

# How many parts there are: the last number of --array above.
parts=16

python scripts/sweep.py "$@" --part "${SLURM_ARRAY_TASK_ID:?is set by sbatch}/$parts" &
job=$!
trap 'kill -TERM "$job" || true' TERM

code=0
wait "$job" || code=$?
# A trap ends the first wait before the sweep has ended.
while kill -0 "$job" 2>/dev/null; do
    code=0
    wait "$job" || code=$?
done
if [ "$code" = 143 ]; then
    scontrol requeue "${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}_$SLURM_ARRAY_TASK_ID"
fi
exit "$code"
