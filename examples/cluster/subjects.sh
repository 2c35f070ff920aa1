#!/usr/bin/env bash
# Many subjects, each by several methods side by side, and one table of all at the end, as jobs of Slurm:
#   subjects.sh MANIFEST FOLDER
# MANIFEST has a line for each subject, with tabs between NOUN, TOKEN, the folder of photos, and the name of the
# output; lines that begin with # are left out. FOLDER gets METHOD/OUTPUT.idx and .json for each, and table.txt. Given
# again, the same line does only what is not there. Prints the number of the job that writes the table.
#
# CONES      the program [cones]
# METHODS    lines of a name and the options of `cones find` [learned, paper]
# EVAL       options of `cones eval` []
# SBATCH     options for every job, such as "--time=4:00:00 --cpus-per-task=8"
# TRIES      how often a job begins before it fails [3]
set -euo pipefail

here=$(realpath "${BASH_SOURCE[0]}")
export CONES=${CONES:-cones} EVAL=${EVAL:-} TRIES=${TRIES:-3}
export METHODS=${METHODS:-$'learned\npaper --method paper'}

# The tasks: a line for each subject and method.
tasks() {
    local noun token photos output method options
    while IFS=$'\t' read -r noun token photos output; do
        case $noun in '#'* | '') continue ;; esac
        while read -r method options; do
            printf '%s\t%s\t%s\t%s\t%s\t%s\n' "$noun" "$token" "$photos" "$output" "$method" "$options"
        done <<<"$METHODS"
    done <"$1"
}

again() {
    local status=0
    for _ in $(seq "$TRIES"); do
        "$@" && return
        status=$?
        # What was asked for cannot be, or the job is to end: trying again would not help.
        case $status in 2 | 130 | 143) break ;; esac
    done
    return $status
}

# One subject by one method: found, then measured. That the answer is no is a result too.
measured() {
    local index=$1 report=$2 photos=$3
    $CONES eval "$index" --images "$photos" $EVAL --json >"$report.new" || [ -s "$report.new" ] || return 1
    mv "$report.new" "$report"
}

task() {
    local manifest=$1 folder=$2 noun token photos output method options
    IFS=$'\t' read -r noun token photos output method options < <(tasks "$manifest" | sed -n "${SLURM_ARRAY_TASK_ID}p")
    local index=$folder/$method/$output.idx report=$folder/$method/$output.json
    mkdir -p "$folder/$method"
    [ -s "$report" ] && return
    # An index of this very plan is found again or goes on; --force would hide that a manifest was changed.
    again $CONES find --subject "$noun" --token "$token" $options -o "$index" "$photos"
    again measured "$index" "$report" "$photos"
}

table() {
    tasks "$1" | python3 -c '
import json, pathlib, sys
folder = pathlib.Path(sys.argv[1])
rows = [["subject", "output", "method", "bytes", "shut", "CLIP-I", "over plain", "95 % interval", "CLIP-T", "better"]]
for line in sys.stdin:
    noun, token, _, output, method, _ = line.rstrip("\n").split("\t")
    report, index = (folder / method / f"{output}.{kind}" for kind in ("json", "idx"))
    row = [f"{token} {noun}", output, method]
    if not report.exists():
        rows.append(row + ["failed, see logs"])
        continue
    found = json.loads(report.read_text())
    shut, over = found["conditions"]["shut"], found["differences"]["shut_minus_plain"]["clip_i"]
    mean = lambda key: "%.4f" % shut[key]["mean"] if key in shut else "-"
    rows.append(row + [f"{index.stat().st_size:,}", "%.2f %%" % (100 * found["density"]), mean("clip_i"),
                       "%+.4f" % over["mean"], "%+.4f to %+.4f" % tuple(over["interval"]), mean("clip_t"),
                       found["verdict"]["answer"]])
widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(len(rows[0]))]
print(*("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows), sep="\n")
' "$2" >"$2/table.txt"
}

case ${1:-} in
    --task) shift; task "$@"; exit ;;
    --table) shift; table "$@"; exit ;;
esac
[ $# -eq 2 ] || { sed -n '2,13s/^# \{0,1\}//p' "$0" >&2; exit 2; }
manifest=$1 folder=$2
read -ra options <<<"${SBATCH:-}"
mkdir -p "$folder/logs"
count=$(tasks "$manifest" | wc -l)
job=$(sbatch --parsable --job-name=cones --output="$folder/logs/%a.log" --open-mode=append --requeue \
    --array="1-$count" "${options[@]}" --wrap "$(printf '%q ' "$here" --task "$manifest" "$folder")")
# Whatever became of the tasks, the table says it.
sbatch --parsable --job-name=cones-table --output="$folder/logs/table.log" --dependency="afterany:$job" \
    "${options[@]}" --wrap "$(printf '%q ' "$here" --table "$manifest" "$folder")"
