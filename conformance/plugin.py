"""The pytest side: options, which cases run with which mounts, and verdicts as pytest outcomes.

`pytest conformance/cases --target qemu` and `assay9 run qemu` are the same run. Without `--target` the
plugin does nothing, so that other test suites in the same environment are left alone.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import shlex
import sys
import time
import traceback
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from conformance.case import ON_A_SHARE, Case
from conformance.catalogue import index
from conformance.catalogue.decided import declared
from conformance.errors import Finding, InfrastructureError, SuiteError, UsageError
from conformance.evidence.manifest import digest_of
from conformance.evidence.models import CaseResult, Environment, Machine, Scope
from conformance.evidence.record import RunWriter, load_run
from conformance.gating.gate import exit_status
from conformance.ground import GroundLost
from conformance.pytest_session.arguments import pytest_addoption, pytest_cmdline_main, pytest_load_initial_conftests
from conformance.pytest_session.cache import own_cache
from conformance.pytest_session.completeness import (
    Completeness,
    case_of,
    keep_details,
    mount_of,
    parameters_of,
    without_tracebacks,
)
from conformance.pytest_session.lines import send
from conformance.pytest_session.reporter import RunReporter, take_over
from conformance.pytest_session.selection import read_only, shuffled
from conformance.pytest_session.shards import part, read_durations, shard_of
from conformance.pytest_session.workers import Workers
from conformance.raw.ring import ring
from conformance.raw.wire import wire
from conformance.reports.terminal import summary
from conformance.reports.write import DEFAULT as DEFAULT_REPORTS
from conformance.reports.write import write_reports
from conformance.run import preflight
from conformance.run.mounted import Runner
from conformance.run.mounting import MOUNTABLE
from conformance.run.request import Request
from conformance.run.start import CaseRunner, NotStarted, start
from conformance.run.tested import job_url
from conformance.sut.asked import asked_of
from conformance.sut.layers import BELOW, chosen_link, default_layers, drivable, said_of_left_out
from conformance.sut.load import files_of, load
from conformance.sut.registry import flags, kind_of
from conformance.sut.spec import Target
from conformance.vfs.mount_options import DEFAULT, MountOptions, for_all_cases, matrix, parse
from guests.host import signals
from guests.host.processes import clean_left_over, end_with_parent

CASES = Path(__file__).parent / "cases"

__all__ = [
    "pytest_addoption",
    "pytest_cmdline_main",
    "pytest_load_initial_conftests",
    "ring",
    "share",
    "wire",
]


@pytest.hookimpl(tryfirst=True)  # before pytest makes its cache
def pytest_configure(config: pytest.Config) -> None:
    """Check the target and the command line before anything slow starts."""
    config.addinivalue_line("markers", "assay9: a conformance case")
    if not config.getoption("--target"):
        return
    try:
        plugin = RunPlugin(config)
    except (UsageError, InfrastructureError) as e:
        pytest.exit(f"assay9: {e}", returncode=2 if isinstance(e, UsageError) else 3)
    config.pluginmanager.register(plugin, "assay9-run")
    config.pluginmanager.register(plugin.completeness, "assay9-completeness")
    if plugin.workers is not None:
        config.pluginmanager.register(plugin.workers, "assay9-workers")
    own_cache(config, plugin.target.name)
    if plugin.controls:  # a user who starts pytest, and not `assay9 run`, has pytest's own reporter
        plugin.reporter = take_over(config, preflight.vouched())


@pytest.fixture
def share(request: pytest.FixtureRequest) -> MountOptions:
    """The share a case runs on; replaced by a `conformance.vfs.share.Share` when the case is called."""
    options: MountOptions = request.param
    return options


class RunPlugin:
    """One run, in the controlling process or in one of its workers."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.target: Target = load(config.getoption("--target"))
        self.kind = kind_of(self.target)
        self.mounts = [for_all_cases(text) for text in config.getoption("--mount")]
        worker = getattr(config, "workerinput", None)
        self.worker = worker["workerid"] if worker else "main"
        self.controls = worker is None
        self.workers_together = int(worker["workercount"]) if worker else 1
        only, limit = config.getoption("--only"), config.getoption("--limit")
        self.only = read_only(Path(only)) if only else None
        shard, plan = config.getoption("--shard"), config.getoption("--durations-of")
        self.shard = shard_of(shard) if shard else None
        self.durations = read_durations(Path(plan)) if plan else {}
        self.limit = time.monotonic() + limit if limit is not None else None
        """No case starts later."""
        self.given = {name: config.getoption(one.key) for name, one in flags().items()}
        if self.controls:
            if not preflight.vouched():
                preflight.check(self._request())
            for option, file in (("--junitxml", config.option.xmlpath), ("--log-file", config.option.log_file)):
                if file:  # pytest's own options, about which it would complain only at the end of the run
                    preflight.check_file(Path(file), option)
        self.run_dir = Path(worker["assay9_run_dir"]) if worker else Path()
        self.messages = str(worker["assay9_messages"]) if worker else ""
        """The address for a worker's lines."""
        self.reporter: RunReporter | None = None
        self.writer: RunWriter | None = None
        self.runners: dict[str, CaseRunner] = {}
        """By layer; all layers that need a mount have the same."""
        self.facts: dict[str, Any] = {}
        self.counts: dict[str, int] = {}
        self.mountable: list[MountOptions] = []
        """Mounts of which a case of the run judges whether they can be had."""
        self.left_out = 0
        """Cases that no server can fail: they do not run unless asked for."""
        self.started = time.monotonic()
        self.completeness = Completeness(lambda: self.writer, self.worker, self.controls)
        self.workers = Workers(config, lambda: self.writer) if self.controls else None
        self.stopped = ""
        """Why pytest ended the run before its end."""
        if self.controls:
            signals.install()  # done already by `assay9`, but not by plain pytest
            signals.working()
        else:
            signals.install(worker=True)
            end_with_parent()
        config.option.continue_on_collection_errors = True  # the other cases run; the record names the missing ones

    def _request(self) -> Request:
        """The request for this run, which is checked before anything starts."""
        option = self.config.getoption
        return Request(
            target=self.target,
            options=self.given,
            layers=option("--layer"),
            families=option("--family"),
            mounts=option("--mount"),
            matrix=option("--mounts") == "all",
            control=option("--control"),
            expression=self.config.option.keyword,
            jobs=option("--jobs"),
            results=Path(option("--results")),
        )

    # ---- which cases, with which mounts

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        """Do not import modules that --layer or --family leaves out."""
        if collection_path.suffix != ".py" or collection_path.parent.parent != CASES:
            return None
        families = self.config.getoption("--family")
        layer, family = collection_path.parent.name, collection_path.stem.removeprefix("test_")
        return True if layer not in self._layers() or (families and family not in families) else None

    def _layers(self) -> list[str]:
        return self.config.getoption("--layer") or list(default_layers(self.target, self.given))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        case = getattr(metafunc.function, "assay9_case", None)
        if case is not None and "share" in metafunc.fixturenames:
            chosen = self._mounts_for(case)
            metafunc.parametrize("share", chosen, indirect=True, ids=[str(m) for m in chosen])

    def _mounts_for(self, case: Case) -> list[MountOptions]:
        """The mounts of the run, each with the options that the case itself needs."""
        return list(dict.fromkeys(parse(case.mount, m) for m in self._caches_for(case)))

    @functools.cached_property
    def _only_mount(self) -> MountOptions | None:
        """The only mount of the share, if the run cannot choose."""
        return self.kind.only_mount(asked_of(self.target, self.given, self._layers()))

    def _caches_for(self, case: Case) -> list[MountOptions]:
        if self.mounts:
            return self.mounts
        if self._only_mount is not None:
            return [self._only_mount]
        if self.config.getoption("--mounts") == "all":
            return [m for m in matrix() if m.cache in case.caches]
        if "none" not in case.caches:
            return [MountOptions(cache=c) for c in ("mmap", "loose") if c in case.caches] or [
                MountOptions(cache=case.caches[0])
            ]
        also = [MountOptions(cache=c) for c in ("mmap", "loose") if case.cached_too and c in case.caches]
        return [DEFAULT, *also]

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Let -k find a case by its id, too: OPEN-004, OPEN-004[rdonly]."""
        case = case_of(item)
        if case is not None and isinstance(item, pytest.Function):
            parameters = parameters_of(item)
            item.extra_keyword_matches.add(f"{case.id}[{parameters}]" if parameters else case.id)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        layers, families = self._layers(), self.config.getoption("--family")
        named = self.config.option.keyword or any("::" in word for word in self.config.args)
        every = self.config.getoption("--all") or named or self.kind.every_case or self.only is not None
        kept: list[pytest.Item] = []
        dropped: list[pytest.Item] = []
        for item in items:
            case = case_of(item)
            wanted = case is not None and case.layer in layers and (not families or case.family in families)
            if wanted and self.only is not None:
                wanted = _key_of(item) in self.only
            if wanted and not every and _by_guest_alone(item):
                self.left_out += 1
                wanted = False
            (kept if wanted else dropped).append(item)
        if self.shard is not None:
            mine = set(part(kept, _key_of, self.shard, self.durations))
            dropped += [item for item in kept if item not in mine]
            kept = [item for item in kept if item in mine]
        if dropped:
            self.config.hook.pytest_deselected(items=dropped)
        # One mount after the other; the case that judges whether the mount works at all comes first.
        first = {item: getattr(case_of(item), "id", "") != MOUNTABLE for item in kept}
        self.mountable = [mount for item in kept if not first[item] and (mount := mount_of(item)) is not None]
        if seed := self.config.getoption("--order"):
            kept = shuffled(kept, lambda item: str(mount_of(item) or ""), seed)
            items[:] = sorted(kept, key=first.__getitem__)
            return
        items[:] = sorted(kept, key=lambda i: (str(mount_of(i) or ""), first[i]))

    # ---- the run

    def pytest_sessionstart(self) -> None:
        if self.config.option.collectonly:
            return
        if self.controls:
            for line in clean_left_over():
                self._progress(line)
            left_out = [] if self.config.getoption("--layer") else said_of_left_out(self.target, self.given)
            for line in left_out:
                self._progress(line)
            environment = Environment(
                target=self.target.name,
                target_kind=self.target.kind,
                target_title=self._title(),
                started=datetime.now(UTC),
                command=_command_line(),
                host_kernel=platform.release(),
                notes=left_out,
                job_url=job_url(os.environ),
                build_id=self.config.getoption("--build-id") or "",
                base=self.config.getoption("--base") or "",
                profiles=files_of(self.config.getoption("--target")),
                declared=len(self.target.profile.known),
                scope=self._scope(),
                asked=self._asked(),
            )
            with signals.deferred():  # otherwise an unknown directory would be left behind
                self.writer = RunWriter.create(Path(self.config.getoption("--results")).absolute(), environment)
                self.run_dir = self.writer.run_dir
            without_tracebacks(self.config)
            if self.reporter is not None:
                self.reporter.details = self.run_dir
        else:
            self.writer = RunWriter.attach(self.run_dir, self.worker)
            signals.working()

    def _asked(self) -> dict[str, str]:
        """The options that select what is tested: runs with other values are not compared with this run."""
        chosen = {name: self.given[name] for name, one in flags().items() if one.flag.chooses}
        return {name: str(value) for name, value in chosen.items() if value}

    def _title(self) -> str:
        """The title from the target's TOML, unless the target's QEMU is replaced."""
        qemu = self.given["qemu"]
        return f"target {self.target.name} with {qemu} in place of its own QEMU" if qemu else self.target.title

    def _scope(self) -> Scope:
        """What this run selects, and what it leaves out."""
        option, layers = self.config.getoption, self._layers()
        beyond = [layer for layer in drivable(self.target) if layer not in layers]
        functions = Counter(entry.layer for entry in index.index().values()) if beyond else Counter[str]()
        return Scope(
            layers=layers,
            layers_not_run={layer: functions[layer] for layer in beyond},
            families=option("--family"),
            shard=option("--shard") or "",
            plan=digest_of(Path(option("--durations-of")))[:16] if option("--durations-of") else "",
            expression=self.config.option.keyword or ("--only" if self.only is not None else ""),
            mounts=["all"] if option("--mounts") == "all" else option("--mount"),
            mounts_in_matrix=len(matrix()),
        )

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["assay9_run_dir"] = str(self.run_dir.absolute())
        messages = self.reporter.messages if self.reporter is not None else None
        node.workerinput["assay9_messages"] = messages.address if messages is not None else ""

    @pytest.hookimpl(tryfirst=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> bool | None:
        case = case_of(pyfuncitem)
        if case is None:
            return None
        if self.limit is not None and time.monotonic() > self.limit:
            self.completeness.not_run(pyfuncitem.nodeid)
            pyfuncitem.session.shouldstop = "assay9: the time of --limit is over"
            pytest.skip("did not run: the time of --limit is over")
        runner = self._runner(case.layer)
        if runner.broken is not None and (isinstance(runner, NotStarted) or not self.counts):
            # A target that did not start judges nothing: one line instead of a thousand.
            self.completeness.not_run(pyfuncitem.nodeid)
            pyfuncitem.session.shouldstop = f"assay9: {runner.broken}"
            pytest.skip(f"did not run: {runner.broken}")
        arguments = {n: pyfuncitem.funcargs[n] for n in pyfuncitem._fixtureinfo.argnames}
        result, raised = runner.run_item(case, parameters_of(pyfuncitem), pyfuncitem.function, arguments)
        assert self.writer is not None
        if isinstance(raised, GroundLost) and raised.restorable and runner.broken is None:
            self.writer.trouble(f"{raised}; seen in {_named(result)}, which is run once more")
            result, raised = runner.run_item(case, parameters_of(pyfuncitem), pyfuncitem.function, arguments)
        signals.check()  # the signal may have reached other processes and caused the failure
        self.writer.append(result)
        if self.facts and (machines := self._machines()) != self.facts["machines"]:  # a second one was started
            self.facts["machines"] = machines
            self.writer.describe(self.facts)
        self.completeness.judged(pyfuncitem.nodeid)
        pyfuncitem.user_properties += [("assay9", result.verdict), ("assay9-case", _named(result))]
        self.counts[result.verdict] = self.counts.get(result.verdict, 0) + 1
        _as_outcome(result, raised)
        return True

    def pytest_runtest_logstart(self) -> None:
        """Refuse another case after a signal whose exception library code has swallowed."""
        signals.check()

    def _runner(self, layer: str) -> CaseRunner:
        key = layer if layer in BELOW else "mount"
        if key not in self.runners:
            assert self.writer is not None
            runner = self.runners[key] = start(
                replace(asked_of(self.target, self.given, self._layers()), workers=self.workers_together),
                self.run_dir,
                self._progress,
                self.worker,
                self.config.getoption("--control") or "first",
                layer,
            )
            if isinstance(runner, Runner):
                runner.unmountable.judged = self.mountable
            if runner.broken is not None:
                self.writer.trouble(str(runner.broken))
            else:
                self._describe(key, runner)
        return self.runners[key]

    def _describe(self, key: str, runner: CaseRunner) -> None:
        """Add what was started to the record; a machine with a mounted share takes precedence."""
        assert self.writer is not None
        seen = {**runner.environment(), **runner.captured()}
        seen.pop("server_argv", None)  # `machines` has it
        if key != "mount":
            seen[f"{key}: link"] = chosen_link(self.target, self.given["link"], key)
        self.facts = {**self.facts, **seen} if key == "mount" else {**seen, **self.facts}
        self.facts |= {"left_out": self.left_out, "machines": self._machines()}
        self.writer.describe(self.facts)

    def _machines(self) -> dict[str, Machine]:
        """Everything that this worker has started."""
        return {name: machine for runner in self.runners.values() for name, machine in runner.machines.items()}

    def _progress(self, text: str) -> None:
        """Report the present activity."""
        if self.reporter is not None:
            self.reporter.say(text)
            return
        if send(self.messages, f"{self.worker}: {text}"):
            return
        with contextlib.suppress(OSError):  # the terminal was closed
            sys.__stderr__.write(f"assay9[{self.worker}]: {text}\n")  # type: ignore[union-attr]

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        """pytest ends early: by a signal, or because it or a plugin decides so (-x; no guest could start)."""
        self.stopped = str(excinfo.value)

    @pytest.hookimpl(trylast=True)  # pytest-xdist has ended the workers
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        signals.finishing()
        if self.reporter is not None:
            self.reporter.finishing()
        for runner in self.runners.values():
            try:
                runner.stop()
            except InfrastructureError as e:  # the results must not be lost with it
                self._progress(str(e))
                if self.writer is not None:
                    self.writer.trouble(str(e))
        try:
            self._keep(session, exitstatus)
        finally:
            if self.reporter is not None:
                self.reporter.close()

    def _keep(self, session: pytest.Session, exitstatus: int) -> None:
        """Finish the record, write the reports and decide the exit status."""
        if self.writer is None:
            return
        if not self.controls:
            self.writer.close()
            if (status := signals.exit_status()) is not None:
                # Not the status with which pytest ends a worker: an interrupted worker would stop the whole run.
                os._exit(status)
        elif exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and not self.writer.troubled:
            self.writer.abandon()
            session.exitstatus = 2  # -k, --layer or --family select no case: the user's error, not the machine's
        else:
            session.exitstatus = self._finish(session, exitstatus)
            if exitstatus == pytest.ExitCode.INTERNAL_ERROR:  # then pytest calls no summary hook
                sys.stdout.write(self._summary())

    def _finish(self, session: pytest.Session, pytest_status: int) -> int:
        """Keep the record and write the reports; the run's exit status."""
        assert self.writer is not None
        stopped = str(session.shouldstop or session.shouldfail or "") or self.stopped
        by = signals.received()
        broke = pytest_status in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR)
        record = self.writer.finish(
            interrupted=broke and not stopped,
            interrupted_by=by.name if by is not None else "",
            why_not_run=f"not run: {stopped.removeprefix('assay9: ')}" if stopped and by is None else "",
        )
        unwritten = self._write_reports()
        # A signal that came after the record was kept changes the exit status only: every case has been judged.
        return signals.exit_status() or exit_status(record) or (3 if unwritten else 0)

    def pytest_unconfigure(self) -> None:
        """Keep the record if the session did not reach its finish: a signal during the start."""
        if not self.controls:
            signals.idle()  # the worker's process waits to be ended, and has nothing to end itself
        if self.reporter is not None:
            self.reporter.close()
        if self.workers is not None and self.writer is not None and not self.writer.finished:
            self.workers.end()
            by = signals.received()
            self.writer.finish(interrupted=True, interrupted_by=by.name if by is not None else "")
            self._write_reports()
            if by is not None:
                raise SystemExit(signals.exit_status())  # pytest's own status would be 2

    def _write_reports(self) -> bool:
        """Write the reports; returns whether some are missing, which does not affect the record or its status."""
        try:
            write_reports(self.run_dir, (*DEFAULT_REPORTS, *(("allure",) if self.config.getoption("--allure") else ())))
        except InfrastructureError as e:
            self._progress(str(e))
            return True
        except SuiteError as e:
            kept = keep_details(self.run_dir, "".join(traceback.format_exception(e)))
            self._progress(f"internal error, a defect of assay9 and not of the target: {e}; its traceback is in {kept}")
            return True
        return False

    def pytest_terminal_summary(self, terminalreporter: Any, exitstatus: int) -> None:
        if not self.controls or self.writer is None or self.config.option.collectonly:
            return
        if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            asked = [f"-k {self.config.option.keyword!r}"] if self.config.option.keyword else []
            asked += [f"--family {family}" for family in self.config.getoption("--family")]
            which = f"{' '.join(asked) or 'this selection'} in the layers {', '.join(self._layers())}"
            terminalreporter.write(f"\nassay9: no case matches {which}; `assay9 cases` lists ids and families\n")
        else:
            terminalreporter.write(self._summary())

    def _summary(self) -> str:
        return summary(load_run(self.run_dir), self.run_dir)


def _named(result: CaseResult) -> str:
    return f"{result.id} on {result.mount}" if result.mount else result.id


def _key_of(item: pytest.Item) -> tuple[str, str]:
    """The item's key in a run: its id with parameters, and its mount."""
    case, parameters = case_of(item), parameters_of(item)
    assert case is not None
    return f"{case.id}[{parameters}]" if parameters else case.id, str(mount_of(item) or "")


def _by_guest_alone(item: pytest.Item) -> bool:
    """Whether the guest's kernel alone decides the case, so no server can fail it."""
    case = case_of(item)
    return case is not None and case.layer in ON_A_SHARE and declared(case.id, parameters_of(item)) == "guest"


def _as_outcome(result: CaseResult, raised: BaseException | None) -> None:
    """Translate a verdict into pytest's: passed, failed, skipped (with the reason), xfailed."""
    line = f"{result.id}: {result.verdict}: {result.reason}"
    if result.verdict in ("undrivable", "unsupported"):
        pytest.skip(line)
    if result.verdict == "known" or (result.verdict == "fail" and result.severity == "varies"):
        pytest.xfail(line)
    if result.verdict == "error":
        raise raised if raised is not None else SuiteError(line)
    if result.verdict in ("fail", "fixed"):
        if isinstance(raised, Finding):
            raise raised
        pytest.fail(line, pytrace=False)  # an OSError, or no exception at all


def _command_line() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
