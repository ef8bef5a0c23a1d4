#!/bin/sh
# Set up a checkout: system packages (assay9/packages.apt), the virtual environment in .venv, the guest image.
# Quick when everything is there. `setup.sh --no-image` leaves the image out; `setup.sh --servers` adds the servers of
# assay9/packages-servers.apt, which only the wire layer's targets diod and ganesha need, `setup.sh --v86` what the targets v86
# and reference-v86 need (assay9/packages-v86.apt), `setup.sh --tests` what some tests skip without
# (assay9/packages-tests.apt).
set -eu
cd "$(dirname "$0")"

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 3; }

lists=assay9/packages.apt
offline=""
if [ "${1:-}" = --servers ]; then
    lists="$lists assay9/packages-servers.apt"
    offline="SYSTEMD_OFFLINE=1"  # their packages would start a service; the suite starts its own, contained
elif [ "${1:-}" = --v86 ]; then
    lists="$lists assay9/packages-v86.apt"
elif [ "${1:-}" = --tests ]; then
    lists="$lists assay9/packages-tests.apt"
    offline="SYSTEMD_OFFLINE=1"  # as above: munge would start
fi

missing=""
while read -r package why; do
    case "$package" in ''|'#'*) continue ;; esac
    if ! dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'install ok installed'; then
        # a Python of another origin than Debian's brings venv with it, a node of another origin npm
        [ "$package" = python3-venv ] && python3 -c 'import ensurepip, venv' 2>/dev/null && continue
        case "$package" in nodejs) command -v node;; npm) command -v npm;; *) false;; esac >/dev/null && continue
        say "needs $package: $why"
        missing="$missing $package"
    fi
done <<LISTS
$(cat $lists)
LISTS

if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || fail "these packages are missing and this is not Debian:$missing"
    if [ "$(id -u)" = 0 ]; then
        sudo=""
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo="sudo"
    elif command -v sudo >/dev/null && [ -t 0 ]; then
        sudo="sudo"
    else
        fail "missing:$missing; ask root to run: apt-get install$missing"
    fi
    say "installing with apt:$missing"
    # shellcheck disable=SC2086  # a list of words on purpose
    { $sudo apt-get update -qq && $sudo env DEBIAN_FRONTEND=noninteractive $offline \
        apt-get install -y -qq --no-install-recommends $missing; } >/tmp/assay9-apt.$$ 2>&1 \
        || { tail -5 /tmp/assay9-apt.$$ >&2; fail "apt-get install$missing failed (whole log: /tmp/assay9-apt.$$)"; }
    rm -f /tmp/assay9-apt.$$
fi

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "Python 3.11 or later is needed, this is $(python3 -V)"

stamp=.venv/.assay9-stamp
wanted=$(cat pyproject.toml requirements.lock 2>/dev/null | sha256sum)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    say "making the virtual environment in .venv (about a minute)"
    [ -x .venv/bin/python ] || python3 -m venv .venv
    .venv/bin/pip install -q --disable-pip-version-check -c requirements.lock -e '.[dev]' \
        || fail "pip could not install the project's dependencies (see above)"
    echo "$wanted" > "$stamp"
fi

# So that what names no case is refused at once, also the first time (docs/command-line.md).
.venv/bin/python -c 'from conformance.catalogue import index; index.warm()' || fail "the cases cannot be collected (see above)"

[ -n "${1:-}" ] || .venv/bin/assay9 guest build
