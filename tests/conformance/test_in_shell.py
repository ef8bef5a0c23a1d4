"""Cases in a guest without Python: those that commands express are judged, the others say why they are not."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from conformance.case import CASES, Case
from conformance.catalogue.library import load_cases
from conformance.run.mounted import Runner
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalOptions, LocalTarget
from conformance.vfs.mount_options import parse
from guests.agent.link import AgentLink
from guests.agent.shell_channel import ShellChannel
from tests.guests.test_agent_in_shell import HostShell, busybox_alone
from tests.targets import loaded

SAMPLE = ("mkdir", "readlink", "fifo", "execut")
"""Words of case functions: families of names and attributes, where commands express much."""


class InShell(LocalDeployment):
    """The directory of this host, seen from inside by commands alone."""

    path = "/usr/bin:/bin"

    def _connect(self) -> None:
        super()._connect()
        self.inside.close()
        self._links.remove(self.inside)
        self.inside = self.control = AgentLink(ShellChannel(HostShell(self.path)))
        self._links.append(self.inside)


def judged(runner: Runner, case: Case) -> tuple[str, str]:
    mount = parse(case.mount, parse(f"cache={case.caches[0]}"))
    result = runner.run(case, "", mount, partial(case.function))[0]
    return result.verdict, result.reason


@pytest.mark.long
@pytest.mark.parametrize("commands", ["coreutils", "busybox"])
def test_no_verdict_is_wrong_for_want_of_python(tmp_path: Path, commands: str) -> None:
    load_cases()
    deployment = InShell(loaded("local", LocalTarget), tmp_path / "run", lambda _: None, LocalOptions())
    deployment.path = InShell.path if commands == "coreutils" else busybox_alone(tmp_path)
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
