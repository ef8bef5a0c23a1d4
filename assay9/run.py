"""`assay9 run`: check the request, then pass it to pytest."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any, TextIO

import click

from assay9.options import WORD, GroupedCommand, GroupedOption
from guests.host.activity import shown

USAGE = 2

_SELECT, _SHARE, _QEMU, _SERVER, _RUN = (
    "Which cases",
    "The share",
    "A target with a guest",
    "A server or device of yours",
    "The run",
)
option = functools.partial(click.option, cls=GroupedOption)


@click.command(cls=GroupedCommand, context_settings={"ignore_unknown_options": True})
@click.argument("target", type=WORD)
@option(
    "--layer",
    "layers",
    multiple=True,
    type=WORD,
    group=_SELECT,
    help="Only this layer: vfs, property, wire, ring (repeatable). Default: all layers of the target, or "
    "those that its TOML names.",
)
@option(
    "--family",
    "families",
    multiple=True,
    type=WORD,
    group=_SELECT,
    help="Only this family of cases, e.g. open (repeatable).",
)
@option(
    "-k",
    "expression",
    type=WORD,
    group=_SELECT,
    metavar="EXPRESSION",
    help="Only cases whose ids or names match, as in pytest: OPEN-004, 'rename and not dir'.",
)
@option(
    "--all",
    "every",
    is_flag=True,
    group=_SELECT,
    help="Include the cases that the guest's kernel decides alone: no server can fail them. -k selects them, too.",
)
@option(
    "--mount",
    "mounts",
    multiple=True,
    group=_SHARE,
    metavar="OPTIONS",
    help="Mount options, e.g. cache=mmap,msize=8192,access=user,posixacl (repeatable).",
)
@option(
    "--mounts",
    "matrix",
    type=click.Choice(["default", "all"]),
    default="default",
    show_default=True,
    group=_SHARE,
    help="all: every cache mode, msize, access mode and version.",
)
@option(
    "--control",
    type=click.Choice(["first", "never"]),
    group=_SHARE,
    help="first (the default): a case must hold on the guest's native file system before it runs on the share.",
)
@option("--qemu", type=WORD, group=_QEMU, metavar="PATH", help="The QEMU to test instead of the target's own.")
@option(
    "--qemu-arg",
    "qemu_args",
    type=WORD,
    multiple=True,
    group=_QEMU,
    metavar="ARG",
    help="One more argument for QEMU, e.g. -L, then its directory (repeatable).",
)
@option(
    "--guest",
    "image",
    type=WORD,
    group=_QEMU,
    metavar="IMAGE",
    help="The guest image instead of the target's: debian11, debian12, debian13.",
)
@option(
    "--security-model",
    type=WORD,
    group=_QEMU,
    metavar="MODEL",
    help="QEMU's security model: passthrough, mapped-xattr, mapped-file, none.",
)
@option(
    "--access",
    type=WORD,
    group=_QEMU,
    metavar="WAY",
    help="How the guest is reached: ssh (the default), or launcher: faster, and only in the suite's own images.",
)
@option("--keep-guest", is_flag=True, group=_QEMU, help="Leave the guest running at the end (assay9 guest ssh).")
@option(
    "--address",
    type=WORD,
    group=_SERVER,
    metavar="ADDRESS",
    help="For targets socket and vhost-user: HOST:PORT, or the path of a unix socket.",
)
@option("--aname", type=WORD, group=_SERVER, metavar="NAME", help="The name to attach to.")
@option("--export", type=WORD, group=_SERVER, metavar="DIR", help="The exported directory, if it is on this host.")
@option(
    "--link",
    type=WORD,
    group=_SERVER,
    metavar="LINK",
    help="How the layers wire and ring reach the device: socket, qtest, qtest-legacy, guest-pci, vhost-user, "
    "vhost-user-inband, vhost-user-legacy.",
)
@option(
    "--jobs",
    type=click.IntRange(1, 64),
    group=_RUN,
    metavar="N",
    help="Guests or servers that run at a time. Default: one per core, at most four.",
)
@option(
    "--results",
    type=click.Path(path_type=Path),
    default=Path("results"),
    show_default=True,
    group=_RUN,
    metavar="DIR",
    help="The directory for run directories.",
)
@option(
    "--build-id",
    type=WORD,
    group=_RUN,
    metavar="TEXT",
    help="The change under test, for the record: a commit, the number of a gate or build.",
)
@option("--base", type=WORD, group=_RUN, metavar="TEXT", help="What that change is based on, for the record.")
@option("--allure", is_flag=True, group=_RUN, help="Write allure-results, too: several files for each case.")
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
def run(
    target: str,
    layers: tuple[str, ...],
    families: tuple[str, ...],
    expression: str | None,
    every: bool,
    mounts: tuple[str, ...],
    matrix: str,
    control: str | None,
    qemu: str | None,
    qemu_args: tuple[str, ...],
    image: str | None,
    security_model: str | None,
    access: str | None,
    keep_guest: bool,
    address: str | None,
    aname: str | None,
    export: str | None,
    link: str | None,
    jobs: int | None,
    results: Path,
    allure: bool,
    build_id: str | None,
    base: str | None,
    pytest_args: tuple[str, ...],
) -> None:
    """Run the cases on TARGET and write the evidence.

    TARGET is a name that `assay9 targets` lists, or the path of a TOML file of your own. Options that are not
    listed here are pytest's: -x, --lf, -v, --co, --durations=10, ...

    Everything is checked before anything starts: a name that does not exist ends with exit status 2 and one line.
    """
    if target.startswith("-"):
        raise click.UsageError(f"give a TARGET before options of pytest: assay9 run TARGET {target}")
    options: dict[str, Any] = {
        "qemu": qemu,
        "qemu_args": qemu_args,
        "image": image,
        "security_model": security_model,
        "access": access,
        "keep_guest": keep_guest,
        "address": address,
        "aname": aname,
        "export": export,
        "link": link,
    }
    with shown("checking the command line"):
        from conformance.sut.spec import load  # noqa: PLC0415 - a second of imports that --help must not wait for

        loaded = load(target)
        from conformance.catalogue import index  # noqa: PLC0415 - another, which an unknown target need not wait for
        from conformance.run import preflight  # noqa: PLC0415 - another, which an unknown target need not wait for
        from conformance.sut.layers import default_layers  # noqa: PLC0415 - as above

        preflight.check(
            preflight.Request(
                target=loaded,
                options=options,
                layers=layers,
                families=families,
                mounts=mounts,
                matrix=matrix == "all",
                control=control or "",
                expression=expression or "",
                jobs=jobs,
                results=results,
            )
        )
        import conformance.plugin  # noqa: F401, PLC0415 - as above
    alone = keep_guest or loaded.server.get("program") == "vhost-user"  # a device has one front end at a time
    # A layer is a folder: collecting only the wanted ones saves a second for each of the others.
    folders = [str(index.CASES / layer) for layer in layers or default_layers(loaded)]
    arguments = [*folders, f"--target={target}", f"--results={results}", f"--mounts={matrix}"]
    arguments += [f"--layer={one}" for one in layers] + [f"--family={one}" for one in families]
    arguments += [f"--mount={one}" for one in mounts] + [f"--qemu-arg={one}" for one in qemu_args]
    given = {
        "--qemu": qemu,
        "--guest": image,
        "--security-model": security_model,
        "--access": access,
        "--address": address,
        "--aname": aname,
        "--export": export,
        "--link": link,
        "--control": control,
        "--build-id": build_id,
        "--base": base,
    }
    arguments += [f"{name}={value}" for name, value in given.items() if value]
    arguments += ["-k", expression] if expression else []
    arguments += ["--all"] if every else []
    arguments += ["--keep-guest"] if keep_guest else []
    arguments += ["--allure"] if allure else []
    arguments += [f"--jobs={1 if alone else jobs or default_jobs()}"]
    with preflight.vouch():
        raise SystemExit(_pytest(arguments, pytest_args))


def _pytest(arguments: list[str], more: tuple[str, ...]) -> int:
    import pytest  # noqa: PLC0415 - slow to import, and only here needed
    from _pytest import config  # noqa: PLC0415 - as above

    def say(e: pytest.UsageError, file: TextIO) -> None:
        """In place of pytest's own, which prints a usage text of several lines."""
        said = next((str(text) for text in e.args if text), "pytest does not accept these options")
        _, _, wrong = said.rpartition(": error: ")
        lines = [line for line in wrong.splitlines() if not line.startswith(("  inifile:", "  rootdir:"))]
        click.echo(f"assay9: {' '.join(' '.join(lines).split())[:400]}", err=True)

    config.print_usage_error = say
    # hypothesis has no part in a run, and costs a second at its start and end
    own = ["-p", "no:hypothesispytest", "-q", "--no-header", "--tb=no", "-rN"]
    status = int(pytest.main([*arguments, *own, *more]))
    return USAGE if status == pytest.ExitCode.USAGE_ERROR else status


def default_jobs() -> int:
    """One guest per core, at most four."""
    return max(1, min(4, os.cpu_count() or 1))
