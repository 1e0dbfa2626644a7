#!/usr/bin/env bash
# Build a corpus on several machines of a SLURM cluster:
#
#   sbatch --nodes=4 deploy/slurm_corpus.sh SPEC.yaml /shared/corpus
#
# Send the same line again after a time limit or a crash: what is done stays done.
#SBATCH --job-name=c2s-corpus
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem-per-cpu=2G
#SBATCH --time=04:00:00
#SBATCH --output=c2s-corpus-%j.log
set -euo pipefail

if [ $# -ne 2 ]; then
  echo "usage: sbatch [--nodes=N] deploy/slurm_corpus.sh SPEC.yaml OUT" >&2
  exit 2
fi
spec=$1 out=$2

export OMP_NUM_THREADS=1 RAY_USAGE_STATS_ENABLED=0
port=$((20000 + SLURM_JOB_ID % 10000))
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
cpus=${SLURM_CPUS_PER_TASK:-1}
store=500000000

# One Ray node a machine, in the foreground of its own step, so that they end with the job.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  ray start --head --node-ip-address="$head" --port="$port" --num-cpus="$cpus" \
  --object-store-memory="$store" --include-dashboard=false --disable-usage-stats --block &
sleep 15
others=$((SLURM_JOB_NUM_NODES - 1))
if [ "$others" -gt 0 ]; then
  srun --nodes="$others" --ntasks="$others" --exclude="$head" --overlap \
    ray start --address="$head:$port" --num-cpus="$cpus" --object-store-memory="$store" \
    --disable-usage-stats --block &
  sleep 15
fi

# On the head itself, which belongs to the cluster that it drives.
srun --nodes=1 --ntasks=1 --nodelist="$head" --overlap \
  c2s corpus build "$spec" --out "$out" --ray "$head:$port"
