"""Cases in a guest without Python: a case that commands can express is judged, any other says why it is not."""

from __future__ import annotations

import os
import stat
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from conformance.case import CASES, Case
from conformance.catalogue.library import load_cases
from conformance.run.mounted import Runner
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalOptions, LocalTarget
from conformance.sut.parts.containment import contain
from conformance.vfs.mount_options import parse
from guests.agent.link import AgentLink
from guests.agent.local_channel import LocalChannel
from guests.agent.shell_channel import ShellChannel
from tests.guests.test_agent_in_shell import HostShell, busybox_alone
from tests.targets import loaded

SAMPLE = ("mkdir", "readlink", "fifo", "execut")
"""Words in names of case functions: cases of names and attributes, many of which commands can express."""


class InShell(LocalDeployment):
    """The directory of this host, seen from inside by commands alone.

    As root, they run in a mount namespace where only the directories of the run are writable: a command that does not
    do what the agent asks must not damage this host (one removed /dev/null).
    """

    path = "/usr/bin:/bin"
    _contained: AgentLink | None = None
    """It holds the namespace in which the commands can write only to the share and the control directory."""

    def _connect(self) -> None:
        super()._connect()
        self.inside.close()
        self._within = None
        launcher: tuple[str, ...] = ()
        if os.geteuid() == 0:
            own = [os.fsencode(root) for root in (self.outside_root, self.control_root)]
            holder = LocalChannel(prepare=partial(contain, own))
            self._contained = AgentLink(holder)
            self._contained.calls.getpid()  # the process is contained once it answers
            launcher = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", "--")
        self.inside = self.control = AgentLink(ShellChannel(HostShell(self.path, launcher)))

    def _close_links(self) -> None:
        super()._close_links()
        if self._contained is not None:
            self._contained.close()


def judged(runner: Runner, case: Case) -> tuple[str, str]:
    mount = parse(case.mount, parse(f"cache={case.caches[0]}"))
    result = runner.run(case, "", mount, partial(case.function))[0]
    return result.verdict, result.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root could hurt this host")
def test_no_command_writes_outside_of_the_run(tmp_path: Path) -> None:
    deployment = InShell(loaded("local", LocalTarget), tmp_path / "run", lambda _: None, LocalOptions())
    (tmp_path / "kept").touch()
    deployment.start()
    try:
        for place in (str(tmp_path / "kept"), "/dev/null"):  # in this order: the first that is removed ends the test
            done = deployment.inside.calls.run(["rm", "-f", place])
            assert done["status"] != 0 and b"ead-only" in done["stderr"], (place, done)
        deployment.inside.calls.create(f"{deployment.inside_root}/a")
        assert Path(deployment.outside_root, "a").exists()
    finally:
        deployment.stop()
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


@pytest.mark.long
@pytest.mark.parametrize("commands", ["coreutils", "busybox"])
def test_no_verdict_is_wrong_for_want_of_python(tmp_path: Path, commands: str) -> None:
    load_cases()
    path = InShell.path if commands == "coreutils" else busybox_alone(tmp_path)
    deployment = InShell(loaded("local", LocalTarget), tmp_path / "run", lambda _: None, LocalOptions())
    deployment.path = path
    runner = Runner(loaded("local", LocalTarget), deployment, "never", "main")
    deployment.start()
    plain = [c for c in CASES.values() if c.layer == "vfs" and c.function.__code__.co_argcount == 1]
    sample = [c for c in plain if any(word in c.function.__name__ for word in SAMPLE)]
    try:
        seen = {case.id: judged(runner, case) for case in sample}
    finally:
        runner.stop()
    wrong = {id: said for id, said in seen.items() if said[0] not in ("pass", "undrivable")}
    assert wrong == {}
    counted = Counter(verdict for verdict, _ in seen.values())
    assert counted["pass"] > 0 and counted["undrivable"] > 0, counted
    assert all(why for verdict, why in seen.values() if verdict == "undrivable")
