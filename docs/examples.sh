#!/bin/sh
# Prints docs/examples.md from a run and a soak: docs/examples.sh RUN SOAK > docs/examples.md
# What is private is taken out first (assay9 redact). Also makes docs/report.png, the first screen of the HTML page.
set -eu
assay9=${ASSAY9:-.venv/bin/assay9}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"$assay9" redact "$1" "$place/public" > "$place/log"
for kind in html junit ktap jsonl ctrf allure markdown; do "$assay9" report "$place/public" --kind "$kind" > "$place/log"; done
shown() {  # TITLE COMMAND LANGUAGE: standard input as a block
    printf '\n## %s\n\n`%s`\n\n```%s\n' "$1" "$2" "$3"
    cut -c1-200
    printf '\n```\n'
}
cat <<HEAD
# Examples of each format

Made by \`docs/examples.sh RUN SOAK\` from one run and one soak, without what is private (\`assay9 redact\`). Long files and lines are cut.
HEAD
"$assay9" report "$place/public" --print --soak "$2" > "$place/rti"
"$(dirname "$0")/picture.sh" "$place/public" > "$place/log" 2>&1
printf '\n## The HTML page\n\n`assay9 report RUN --kind html`\n\n![The first screen of the page](report.png)\n'
sed "s,$place,RESULTS," "$place/rti" | shown "The text for a ticket" "assay9 report RUN --print --soak SOAK" text
cat "$place/public/summary.md" | shown "Markdown for a pull request" "assay9 report RUN --kind markdown" markdown
head -c 1800 "$place/public/junit.xml" | fold -s -w 130 | shown JUnit "assay9 report RUN --kind junit" xml
head -n 12 "$place/public/results.ktap" | shown KTAP "assay9 report RUN --kind ktap" text
sed -n 2,3p "$place/public/results.jsonl" | fold -s -w 130 | head -n 8 | shown "JSON lines" "assay9 report RUN --kind jsonl" text
head -c 800 "$place/public/ctrf.json" | fold -s -w 130 | shown CTRF "assay9 report RUN --kind ctrf" text
find "$place/public/allure-results" -name '*-result.json' | sort | head -n 1 | xargs head -c 1500 | fold -s -w 130 |
    shown Allure "assay9 report RUN --kind allure" text
"$assay9" baseline save "$place/public" "$place/baseline.json" > "$place/log"
head -c 900 "$place/baseline.json" | shown "A baseline" "assay9 baseline save RUN FILE" json
"$assay9" gate "$place/public" | shown "The gate" "assay9 gate RUN" text
shown "The text of a soak" "assay9 soak report SOAK" text < "$2/report.txt"
