#!/bin/sh
# The commit-msg hook (see CONTRIBUTING.md): a subject of at most 72 characters that begins with the part, and a body.
set -eu
message=$(sed -e '/^# ------------------------ >8/,$d' -e '/^#/d' "$1")
subject=$(printf '%s\n' "$message" | head -n 1)
case $subject in
    "fixup! "* | "squash! "* | "Merge "* | "Revert "*) exit 0 ;;
esac
refuse() {
    echo "commit message: $1" >&2
    exit 1
}
[ ${#subject} -le 72 ] || refuse "the subject has ${#subject} characters; 72 are the most"
printf '%s\n' "$subject" | grep -Eq '^[A-Za-z0-9_./, -]+: .' || refuse "the subject does not begin with the part: 'guests: ...'"
[ -z "$(printf '%s\n' "$message" | sed -n 2p)" ] || refuse "the second line is not empty"
[ -n "$(printf '%s\n' "$message" | tail -n +3 | tr -d '[:space:]')" ] || refuse "the body is missing: say why"
