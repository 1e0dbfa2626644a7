#!/usr/bin/env bash
# Train on a corpus with every GPU of several machines of a SLURM cluster:
#
#   sbatch --nodes=2 --gpus-per-node=8 deploy/slurm_pretrain.sh /shared/corpus EleutherAI/pythia-1b /shared/model
#
# Send the same line again after a time limit or a crash: it goes on at the last checkpoint.
#SBATCH --job-name=c2s-pretrain
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --time=24:00:00
#SBATCH --output=c2s-pretrain-%j.log
set -euo pipefail

if [ $# -lt 3 ]; then
  echo "usage: sbatch deploy/slurm_pretrain.sh CORPUS MODEL OUT [more options of c2s train pretrain]" >&2
  exit 2
fi
corpus=$1 model=$2 out=$3
shift 3

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))

# The paper's settings: learning rate 1e-5 with linear decay, weight decay 0.01.
srun torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="${SLURM_GPUS_ON_NODE:-1}" \
  --rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID" --rdzv-endpoint="$head:$port" \
  -m c2s train pretrain --corpus "$corpus" --model "$model" --out "$out" --resume \
  --learning-rate 0.00001 --option weight_decay=0.01 --option bf16=true "$@"
