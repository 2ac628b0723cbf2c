#!/bin/bash
#SBATCH --job-name=collect
#SBATCH --array=1-16
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --output=collect-%A-%a.log
# One data set, collected on 16 machines that share a file system:
#     sbatch scripts/slurm_collect.sh reacher data.path=/shared/reacher
# Task k collects part k of 16, every 16th shard; together they are, byte for byte, what one run collects. Given again,
# for all tasks or for some (`sbatch --array=3,7 ...`), it collects what is missing.
set -euo pipefail

# How many parts there are: the last number of --array above.
parts=16

exec worldjepa collect "$@" \
    "collect.shard=${SLURM_ARRAY_TASK_ID:?is set by sbatch}/$parts" \
    "collect.workers=${SLURM_CPUS_PER_TASK:-0}"
