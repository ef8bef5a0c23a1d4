"""`assay9 doctor`: what this machine has, what is missing, and what to do about it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import click

from guests.doctor import Finding as Probe
from guests.doctor import probes
from guests.host.activity import shown

PACKAGES = Path(__file__).with_name("packages.apt")
SERVERS = PACKAGES.with_name("packages-servers.apt")


@click.command()
@click.option("--quick", is_flag=True, help="Skip the probe that boots a kernel under KVM.")
@click.option("--verify", is_flag=True, help="Check every byte in the cache (seconds).")
def doctor(quick: bool, verify: bool) -> None:
    """Show what this machine has for a run and what is missing, each missing thing with its remedy.

    Exit status 0 when a default run can start, 3 when something that it needs is missing.
    """
    missing = False
    with shown("checking this machine"):
        seen = [*packages(PACKAGES), *packages(SERVERS, needed=False), *probes(quick=quick, verify=verify)]
    for probe in seen:
        mark = "ok" if probe.ok else "missing" if probe.needed else "note"
        click.echo(f"{mark:<7}  {probe.name:<22} {probe.detail}")
        if not probe.ok and probe.remedy:
            click.echo(f"         {'':<22} -> {probe.remedy}")
        missing = missing or (probe.needed and not probe.ok)
    raise SystemExit(3 if missing else 0)


def packages(listed: Path, needed: bool = True) -> list[Probe]:
    """Whether each package of that file is installed; empty on a system without dpkg."""
    if shutil.which("dpkg-query") is None:
        return []
    found = []
    for line in listed.read_text().splitlines():
        name, _, why = line.partition(" ")
        if not name or name.startswith("#"):
            continue
        argv = ["dpkg-query", "-W", "-f", "${Status} ${Version}", name]
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False)
        ok = done.stdout.startswith("install ok installed")
        detail = done.stdout.split()[-1] if ok else f"not installed: {why.strip()}"
        found.append(Probe(f"package {name}", ok, detail, f"apt-get install {name}", needed=needed))
    return found
