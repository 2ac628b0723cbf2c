#!/bin/bash
#SBATCH --job-name=train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#SBATCH --output=train-%j.log
# One run, trained by all GPUs of several nodes that share a file system:
#     sbatch scripts/slurm_train.sh reacher_gpu data.path=/shared/reacher run=/shared/runs/reacher
# Preempted, or at the end of its time, it leaves a checkpoint, and is put into the queue again, where it goes on. A process that
# dies takes the others with it, and torchrun starts all of them again from the newest checkpoint, up to 3 times.
# Not tried on a cluster yet: read it before you trust it with one.
set -euo pipefail

nodes="${SLURM_JOB_NUM_NODES:?is set by sbatch}"
processes="${SLURM_GPUS_ON_NODE:-1}"
hosts=$(scontrol show hostnames "${SLURM_JOB_NODELIST:?is set by sbatch}")

srun --kill-on-bad-exit=1 torchrun \
    --nnodes "$nodes" --nproc-per-node "$processes" --max-restarts 3 \
    --rdzv-backend c10d --rdzv-id "${SLURM_JOB_ID:?is set by sbatch}-${SLURM_RESTART_COUNT:-0}" \
    --rdzv-endpoint "${hosts%%$'\n'*}:29500" \
    -m worldjepa train "$@" &
job=$!

# What the scheduler tells this shell, the processes on the nodes have to hear; they finish their step and write a checkpoint.
preempted=
pass_on() {
    preempted=yes
    scancel --signal=TERM "$SLURM_JOB_ID.0" || true
}
trap pass_on TERM

code=0
wait "$job" || code=$?
if [ -n "$preempted" ]; then
    # A trap ends the first wait before the processes have ended.
    wait "$job" || code=$?
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
