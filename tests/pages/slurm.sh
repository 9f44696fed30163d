#!/bin/bash
#SBATCH --array=1-4
#SBATCH --requeue
shard=shard-$SLURM_ARRAY_TASK_ID
crossmod check seed --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" --resume "$shard.journal" \
    --format json > "$shard.json"
