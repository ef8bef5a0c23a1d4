#!/bin/sh
# The picture in README.md and in the docs: the first page of a report. Usage: docs/picture.sh RUN (needs chromium).
set -eu
page=$(readlink -f "$1/report.html")
exec chromium --headless --no-sandbox --disable-gpu --hide-scrollbars --window-size=1280,800 \
    --screenshot="$(dirname "$0")/report.png" "file://$page"
