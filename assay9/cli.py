"""The command `assay9`: composes the packages, holds nothing else."""

from __future__ import annotations

import importlib
import os
from pathlib import Path

import click

import conformance
from conformance.errors import InfrastructureError, UsageError

CASES = Path(conformance.__file__).parent / "cases"
USAGE, INFRASTRUCTURE = 2, 3

ELSEWHERE = {
    "cases": "assay9.cases",
    "compare": "conformance.evidence.cli",
    "doctor": "assay9.doctor",
    "frames": "reference_server.cli",
    "guest": "guests.cli",
    "report": "conformance.evidence.cli",
    "serve": "reference_server.cli",
    "soak": "soak.cli",
}
"""Commands that their own package declares: command -> module. Imported when asked for, so that --help is quick."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """See click.Group."""
        return sorted({*super().list_commands(ctx), *ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """See click.Group."""
        if cmd_name not in ELSEWHERE:
            return super().get_command(ctx, cmd_name)
        command = getattr(importlib.import_module(ELSEWHERE[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="assay9")
def cli() -> None:
    """Conformance and soak tests for virtio-9p (9P2000.L) shares.

    \b
    assay9 doctor                    what this machine has and lacks
    assay9 run qemu                  every VFS call from a guest, on QEMU's own virtio-9p
    assay9 run qemu -k rename -x     pytest's own habits work
    assay9 run diod --layer wire     raw 9P against a server
    assay9 cases --matrix            which 9P message is covered by which case
    assay9 report latest             the reports of a run, again

    Exit status: 0 nothing unexpected, 1 unexpected failure or unexpected pass, 2 usage,
    3 the infrastructure failed (worth a retry), 130 and 143 interrupted.
    """


@cli.command(context_settings={"ignore_unknown_options": True})
@click.argument("target")
@click.option("--layer", "layers", multiple=True, help="Only this layer: vfs, property, wire, ring (repeatable).")
@click.option("--family", "families", multiple=True, help="Only this family of cases, e.g. open (repeatable).")
@click.option("--mount", "mounts", multiple=True, help="Mount so, e.g. cache=mmap,msize=8192 (repeatable).")
@click.option("--mounts", "matrix", type=click.Choice(["default", "all"]), default="default", show_default=True,
              help="all: every cache mode, msize, access mode and version.")  # fmt: skip
@click.option("--jobs", type=click.IntRange(1), help="Guests at a time; default: one per two cases' worth of cores.")
@click.option("-k", "expression", help="Only cases whose ids or names match, as in pytest: OPEN-004.")
@click.option("--keep-guest", is_flag=True, help="Leave the guest running at the end (assay9 guest ssh).")
@click.option("--results", type=click.Path(path_type=Path), default=Path("results"), show_default=True,
              help="Where run directories go.")  # fmt: skip
@click.option("--qemu", type=click.Path(), help="The QEMU to test instead of the target's own.")
@click.option("--qemu-arg", "qemu_args", multiple=True, help="A further argument for it (repeatable).")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def run(
    target: str, layers: tuple[str, ...], families: tuple[str, ...], mounts: tuple[str, ...], matrix: str,
    jobs: int | None, expression: str | None, keep_guest: bool, results: Path, qemu: str | None,
    qemu_args: tuple[str, ...], pytest_args: tuple[str, ...],
) -> None:  # fmt: skip
    """Run the cases on TARGET and write the evidence.

    TARGET is a name that `assay9 targets` lists, or the path of a TOML file of your own. Anything
    else is passed on to pytest: `-x`, `--lf`, `-v`, `--guest debian13`, `--address HOST:PORT`.
    """
    import pytest  # noqa: PLC0415 - slow to import, and only this command needs it

    from conformance.targets.spec import load  # noqa: PLC0415

    # A layer is a folder: collecting only the wanted ones saves a second for each of the others.
    folders = [CASES / layer for layer in layers or load(target).layers or ("vfs", "property")]
    found = [str(folder) for folder in folders if folder.is_dir()]
    arguments = [*(found or [str(CASES)]), "--target", target, f"--mounts={matrix}", f"--results={results}"]
    arguments += [f"--layer={v}" for v in layers] + [f"--family={v}" for v in families]
    arguments += [f"--mount={v}" for v in mounts] + [f"--qemu-arg={v}" for v in qemu_args]
    arguments += [f"--qemu={qemu}"] if qemu else []
    arguments += ["-k", expression] if expression else []
    arguments += ["--keep-guest"] if keep_guest else []
    workers = jobs if jobs is not None else default_jobs()
    if load(target).server.get("program") == "vhost-user":
        workers = 1  # somebody's device has one front end at a time
    arguments += ["-n", str(workers)] if workers > 1 and not keep_guest else []
    # hypothesis and allure have no part in a run, and cost seconds at its start and end
    arguments += ["-p", "no:hypothesispytest", "-p", "no:allure_pytest"]
    arguments += ["-q", "--no-header", "--tb=short", "-rN", *pytest_args]
    status = int(pytest.main(arguments))
    raise SystemExit(USAGE if status == pytest.ExitCode.USAGE_ERROR else status)


def default_jobs() -> int:
    """One guest per core, at most four."""
    return max(1, min(4, os.cpu_count() or 1))


@cli.command()
def targets() -> None:
    """List the targets that have a TOML file here."""
    from conformance.targets.spec import load, names  # noqa: PLC0415

    for name in names():
        target = load(name)
        click.echo(f"{name:<16} {target.kind:<7} {target.title}")


def main() -> int:
    """Run the command; its exit status. Every expected error becomes one line.

    A KeyboardInterrupt, and click's Abort in its place, go through: `assay9.start` knows which signal arrived.
    """
    try:
        ended = cli.main(standalone_mode=False)
    except click.exceptions.Abort as e:
        raise KeyboardInterrupt from e
    except click.ClickException as e:
        e.show()
        return USAGE
    except UsageError as e:
        click.echo(f"assay9: {e}", err=True)
        return USAGE
    except InfrastructureError as e:
        click.echo(f"assay9: {e}", err=True)
        return INFRASTRUCTURE
    except SystemExit as e:
        ended = e.code
    return ended if isinstance(ended, int) else 0
