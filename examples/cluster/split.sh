#!/usr/bin/env bash
# One find by Algorithm 1, split over N jobs of Slurm and added up by one more, to the bytes of a find in one piece:
#   split.sh N OUT.idx --subject dog --class-images dogs/ photos/
# Everything behind OUT.idx is what `cones find --method paper` takes; without a --rho it is --rho 0, at which steps
# never depend on each other. The bytes are those of one run on such a processor: other kinds round differently. Parts
# are kept in OUT.parts; given again, the same line takes only the steps whose part is not there. Prints the number of
# the job that writes OUT.idx.
#
# CONES      the program [cones]
# SBATCH     options for every job, such as "--time=4:00:00 --cpus-per-task=8 --gres=gpu:1"
# TRIES      how often a job begins before it fails [3]
set -euo pipefail

[ $# -ge 4 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
parts=$1 index=$2
shift 2
cones=${CONES:-cones} tries=${TRIES:-3}
read -ra options <<<"${SBATCH:-}"
folder=${index%.idx}.parts
mkdir -p "$folder"

case " $* " in *" --rho"*) ;; *) set -- --rho 0 "$@" ;; esac
find=$(printf '%q ' "$cones" find --method paper "$@")
scores=$(printf %q "$folder")/\$SLURM_ARRAY_TASK_ID-of-$parts.scores
run="for try in \$(seq $tries); do
    $find --shard \$SLURM_ARRAY_TASK_ID/$parts --scores $scores && exit 0
    status=\$?
    # What was asked for cannot be, or the job is to end: trying again would not help.
    case \$status in 2 | 130 | 143) break ;; esac
done
exit \$status"
job=$(sbatch --parsable --job-name="${index##*/}" --output="$folder/%a.log" --open-mode=append --requeue \
    --array="1-$parts" "${options[@]}" --wrap "$run")

files=()
for part in $(seq "$parts"); do files+=("$folder/$part-of-$parts.scores"); done
sum=$(printf '%q ' "$cones" find --from-scores "${files[@]}" -o "$index")
sbatch --parsable --job-name="${index##*/}" --output="$folder/sum.log" --dependency="afterok:$job" \
    --kill-on-invalid-dep=yes "${options[@]}" --wrap "$sum"
