"""The command line of a run as pytest sees it: the suite's options, and refusals in one line.

`pytest conformance/cases --target qemu` and `assay9 run qemu` take the same options. Without `--target` pytest is
unchanged.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from conformance.sut.registry import flags
from guests.words import unknown


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the options of a run."""
    group = parser.getgroup("assay9", "conformance of a 9P share")
    group.addoption("--target", metavar="NAME", help="what to test: a name of conformance/targets or a TOML file")
    group.addoption("--layer", action="append", default=[], help="only this layer (repeatable)")
    group.addoption("--family", action="append", default=[], help="only this family, e.g. open (repeatable)")
    group.addoption(
        "--all", action="store_true", help="include cases that the guest's kernel decides alone; -k selects them, too"
    )
    group.addoption(
        "--mount",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="mount options, e.g. cache=mmap,msize=8192,access=user,posixacl (repeatable)",
    )
    group.addoption(
        "--mounts",
        choices=("default", "all"),
        default="default",
        help="default: cache=none and a subset in mmap and loose; all: the whole matrix",
    )
    group.addoption("--results", default="results", metavar="DIR", help="where run directories go")
    for one in flags().values():
        more: dict[str, Any] = {"metavar": one.flag.metavar or None}
        if one.many:
            more |= {"action": "append", "default": []}
        elif one.switch:
            more = {"action": "store_true"}
        group.addoption(one.flag.name, dest=one.key, help=one.flag.help, **more)
    group.addoption("--shard", metavar="I/N", help="only the I-th of N parts of the cases")
    group.addoption("--durations-of", metavar="PLAN", help="balance the parts by the durations of this plan")
    group.addoption("--only", metavar="FILE", help="only the cases of this JSON list of [id, mount]")
    group.addoption("--order", metavar="SEED", help="in random order, the same for the same seed")
    group.addoption("--limit", type=float, metavar="SECONDS", help="start no case later than this; those are errors")
    group.addoption("--build-id", metavar="TEXT", help="the change under test: a commit, a gate's or a build's number")
    group.addoption("--base", metavar="TEXT", help="what that change is based on")
    group.addoption("--jobs", type=int, metavar="N", help="guests or servers at a time (pytest-xdist's -n)")
    group.addoption("--allure", action="store_true", help="write allure-results, too: some files for each case")
    group.addoption(
        "--control",
        choices=("first", "always", "never"),
        default=None,
        help="first: a case must hold on the guest's native file system before it runs on the share; the result of an "
        "earlier run counts. always: it runs there each time",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config, parser: pytest.Parser, args: list[str]) -> None:
    """Refuse unknown options and missing paths before anything is collected."""
    known = early_config.known_args_namespace
    if not getattr(known, "target", None):
        return
    seen, unknown_words = parser.parse_known_and_unknown_args(args)
    if unknown_words:
        option = unknown_words[0].partition("=")[0]
        raise pytest.UsageError(unknown("option", option, parser._opt2dest))
    if seen.markexpr:
        raise pytest.UsageError("-m selects by marks, which cases do not have: use -k, --layer or --family")
    for word in getattr(seen, "file_or_dir", ()):
        if not Path(word.partition("::")[0]).exists():
            raise pytest.UsageError(f"no file {word}: only options follow the target; -k EXPRESSION selects cases")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Translate --jobs into pytest-xdist's -n, before xdist reads it; -n itself wins.

    One job is also a worker: a case that ends its process must not end the run. With -s or --pdb, which do not work in
    a worker, and --keep-guest, whose guest outlives its worker, cases run in this process.
    """
    jobs, option = config.getoption("--jobs"), config.option
    if jobs is not None and getattr(option, "numprocesses", 0) is None and not hasattr(config, "workerinput"):
        here = jobs == 1 and (option.usepdb or option.capture == "no" or option.keep_guest)
        option.numprocesses = None if here else jobs
    return (yield)
