#!/bin/sh
# One job of a CI: run TARGET, write the reports, judge. The exit status is the gate's (docs/gate.md).
#
#   ci/assay9.sh TARGET [options of assay9 run]
#
# ASSAY9            the command; default assay9
# ASSAY9_BASELINE   a file of `assay9 baseline save`; without it every undeclared failure counts
# ASSAY9_BUILD_ID   the change under test, for the record; default the commit of the working directory
# ASSAY9_RESULTS    where run directories go; default results
set -u
[ $# -gt 0 ] || { echo "usage: ci/assay9.sh TARGET [options of assay9 run]" >&2; exit 2; }
target=$1
shift
assay9=${ASSAY9:-assay9}
results=${ASSAY9_RESULTS:-results}
change=${ASSAY9_BUILD_ID:-$(git rev-parse HEAD 2>/dev/null || echo unknown)}

"$assay9" run "$target" --results "$results" --build-id "$change" "$@"
status=$?
[ "$status" -ne 2 ] || exit 2  # wrong usage: there is no run

annotate=
[ -z "${GITHUB_ACTIONS:-}" ] || annotate=--annotate
"$assay9" report latest --results "$results" --kind html --kind rti --kind junit --kind markdown $annotate || exit 3
if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat "$results/latest/summary.md" >> "$GITHUB_STEP_SUMMARY"; fi

if [ -n "${ASSAY9_BASELINE:-}" ]; then
    "$assay9" gate latest --results "$results" --baseline "$ASSAY9_BASELINE"
    status=$?
fi
exit "$status"
