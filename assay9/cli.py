"""The command `assay9`: composes the packages and contains nothing else."""

from __future__ import annotations

import errno
import importlib
import os
import sys
import threading

import click

from assay9.refusal import refused, too_long, unexpected
from conformance.errors import InfrastructureError, UsageError
from guests.host import signals

USAGE, INFRASTRUCTURE = 2, 3

ELSEWHERE = {
    "merge": "assay9.plan",
    "plan": "assay9.plan",
    "table": "conformance.reports.publish_cli",
    "bisect": "assay9.bisect",
    "bench": "assay9.bench",
    "attest": "conformance.reports.publish_cli",
    "redact": "conformance.reports.publish_cli",
    "schema": "conformance.reports.publish_cli",
    "verify": "conformance.reports.publish_cli",
    "baseline": "conformance.reports.cli",
    "gate": "conformance.reports.cli",
    "cases": "assay9.cases",
    "compare": "conformance.reports.cli",
    "doctor": "assay9.doctor",
    "explore": "assay9.explore",
    "fleet": "assay9.fleet.cli",
    "frames": "reference_server.commands.frames",
    "guest": "guests.cli",
    "profile": "assay9.profile",
    "replay": "assay9.explore",
    "report": "conformance.reports.cli",
    "run": "assay9.run",
    "selftest": "assay9.selftest",
    "serve": "reference_server.commands.serve",
    "soak": "soak.cli",
}
"""Commands that their own package declares: command -> module. Imported when asked for, so that --help is quick."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*super().list_commands(ctx), *ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
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
    assay9 doctor                    what this machine has, and what is missing
    assay9 run qemu                  every VFS call from a guest, on QEMU's own virtio-9p
    assay9 run qemu -k rename -x     pytest's own options work
    assay9 run diod --layer wire     raw 9P against a server
    assay9 cases --matrix            which 9P message is covered by which case
    assay9 report latest             write the reports of a run again

    Exit status: 0 nothing unexpected, 1 unexpected failure or unexpected pass, 2 usage,
    3 the infrastructure failed (worth a retry), 130 and 143 interrupted.
    """


@cli.command()
def targets() -> None:
    """List the targets that have a TOML file here."""
    from conformance.sut.load import load, names  # noqa: PLC0415 - 160 ms of models, which --help need not wait for

    for name in names():
        target = load(name)
        click.echo(f"{name:<16} {target.kind:<16} {target.title}")


def main() -> int:
    """Run the command; its exit status. Every expected error becomes one line.

    A KeyboardInterrupt, and click's Abort in its place, pass through: `assay9.start` knows which signal arrived.
    """
    threading.excepthook = _in_a_thread
    try:
        ended = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort as e:
        raise KeyboardInterrupt from e
    except click.exceptions.NoArgsIsHelpError as e:
        e.show()
        return USAGE
    except click.ClickException as e:
        click.echo(refused(e), err=True)
        return USAGE
    except UsageError as e:
        click.echo(f"assay9: {e}", err=True)
        return USAGE
    except InfrastructureError as e:
        click.echo(f"assay9: {e}", err=True)
        return INFRASTRUCTURE
    except BrokenPipeError:  # the reader closed the pipe: `assay9 cases | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as e:
        ended = e.code
    except Exception as e:
        if isinstance(e, OSError) and e.errno == errno.ENAMETOOLONG:  # only the user's names are that long
            click.echo(f"assay9: {too_long(e)}", err=True)
            return USAGE
        # The only place where a defect of the suite becomes a line for the user. What a signal breaks is not a defect.
        if signals.received() is not None:
            raise
        click.echo(unexpected(e), err=True)
        return INFRASTRUCTURE
    return ended if isinstance(ended, int) else 0


def _in_a_thread(seen: threading.ExceptHookArgs) -> None:
    """Report an unexpected exception of another thread in one line; the command continues."""
    click.echo(unexpected(seen.exc_value or RuntimeError("a thread ended")), err=True)
