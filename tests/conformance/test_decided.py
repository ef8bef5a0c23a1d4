"""conformance.catalogue.decided: who decides a case, by the messages of its calls, and what a case declares."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from conformance.catalogue.decided import Step, _declared, declared, derive, of_case
from conformance.catalogue.library import load_cases
from conformance.vocabulary import DecidedBy
from tests.golden.record_decided import RECORDED

CREATED = Step("create", "", ("Twalk -> ENOENT", "Twalk", "Tlcreate", "Tclunk"))
LOOKED_UP = ("Twalk", "Tgetattr", "Tclunk")


@pytest.mark.parametrize(
    ("steps", "by"),
    [
        ([CREATED, Step("truncate", "EINVAL")], "guest"),
        ([CREATED, Step("truncate", "EINVAL", LOOKED_UP)], "guest"),
        ([CREATED, Step("truncate", "EINVAL", ("Tsetattr -> EINVAL",))], "server"),
        ([CREATED, Step("truncate", "EINVAL", ("Tsetattr -> EIO",))], "server"),
        ([CREATED, Step("open", "EACCES", LOOKED_UP)], "informed"),
        ([CREATED, Step("open", "EACCES", ("Twalk", "Tlopen -> EACCES"))], "server"),
        ([CREATED, Step("open", "ENOENT", ("Twalk -> ENOENT",))], "server"),
        ([CREATED, Step("lseek"), Step("lseek")], "informed"),
        ([CREATED, Step("lseek", "EINVAL"), Step("slurp", "", ("Twalk", "Tlopen", "Tread", "Tclunk"))], "guest"),
        ([CREATED, Step("slurp", "", ("Twalk", "Tlopen", "Tread", "Tclunk")), Step("lseek", "EINVAL")], "server"),
        ([CREATED, Step("lseek", "EINVAL"), Step("write", "", ("Twrite",)), Step("chmod", "", ("Tsetattr",))], "guest"),
        ([CREATED, Step("access", "", LOOKED_UP)], "informed"),
        ([CREATED, Step("attempts", "", LOOKED_UP)], "informed"),
        ([CREATED, Step("attempts", "", (*LOOKED_UP, "Tlopen -> EACCES"))], "server"),
        ([CREATED, Step("attempts", "", ("Twalk -> ENOENT",))], "server"),
        ([CREATED, Step("stat", "", LOOKED_UP)], "server"),
        ([CREATED], "server"),
        ([], "informed"),
    ],
    ids=str,
)
def test_what_the_messages_of_each_call_show(steps: list[Step], by: DecidedBy) -> None:
    assert derive(steps) == by


def test_a_message_that_is_the_point_and_a_comparison_that_was_asked_for_are_the_server_s() -> None:
    refused = [CREATED, Step("truncate", "EINVAL")]
    assert derive(refused, covers=["Tsetattr"]) == "server"
    assert derive(refused, comparisons=["stat", "content"]) == "guest", "nothing was sent that could change it"
    assert derive([CREATED, Step("lseek")], comparisons=["content"]) == "server"


def recorded() -> Iterable[tuple[str, DecidedBy]]:
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        seen = json.loads(line)
        steps = [Step(op, errno, tuple(messages)) for op, errno, messages in seen["steps"]]
        yield seen["id"], derive(steps, seen["covers"], seen["comparisons"])


def test_what_is_declared_is_what_the_recorded_messages_show() -> None:
    assert dict(recorded()) == dict(_declared()), "python tests/golden/record_decided.py RUN..."


def test_what_is_declared_are_cases_and_a_small_part_of_them() -> None:
    ids = {case.id for case in load_cases() if case.layer in ("vfs", "property")}
    named = {name.partition("[")[0] for name in _declared()}
    assert named <= ids
    assert len(named) < len(ids) / 3
    assert declared("OPEN-001") == "server" and declared("SEEK-003") == "guest"
    assert of_case("OPEN-001") == {} and of_case("SEEK-003") == {"guest": [""]}
    assert of_case("NAMES-004") == {"guest": ["256", "300", "4000"]}


def test_what_the_guest_decides_alone_runs_when_it_is_asked_for(tmp_path: Path) -> None:
    def collected(*more: str) -> set[str]:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "conformance/cases/vfs",
                "--collect-only",
                "-q",
                "-p",
                "no:cacheprovider",
                "--target=reference-uml",
                "--family=seek",
                f"--results={tmp_path}",
                *more,
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
        )
        return {line for line in done.stdout.splitlines() if "::" in line}

    every = collected("--all")
    left_out = every - collected()
    assert left_out and len(left_out) < len(every)
    named = collected("-k", "SEEK-003")
    assert named and named <= left_out, "what is named runs"
