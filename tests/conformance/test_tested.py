"""What was tested, as found on the machine: programs, the exported file system, the CI job, older records."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from conformance.errors import Undrivable
from conformance.evidence.models import Environment
from conformance.run.tested import exported, job_url, program_of, programs
from conformance.sut.load import files_of
from conformance.sut.parts.no_outside import Nowhere
from guests.agent.link import AgentLink
from guests.agent.ops import Ops
from tests.waiting import eventually


@pytest.fixture
def sleeping(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A working program of the user's own: a copy of a program of the distribution."""
    own = tmp_path / "own-build"
    shutil.copy2("/bin/sleep", own)
    process = subprocess.Popen([str(own), "600"])
    yield process
    process.kill()
    process.wait()


def test_a_program_is_named_by_what_its_process_executes(sleeping: subprocess.Popen[bytes]) -> None:
    found = programs({"device": ["/bin/true"]}, {"device": sleeping.pid})["device"]
    path = str(sleeping.args[0])  # type: ignore[index]
    assert found.path == path
    assert found.sha256 == hashlib.sha256(Path(path).read_bytes()).hexdigest()
    assert "coreutils" in found.version and "\n" in found.version  # the whole text
    assert not found.package  # a copy belongs to no package


def test_libraries_beside_a_program_are_hashed_and_the_systems_are_not(tmp_path: Path) -> None:
    library = tmp_path / "libown.so.1"
    shutil.copy2(next(Path("/lib").rglob("libm.so.6")), library)
    environment = {"LD_PRELOAD": str(library)}
    process = subprocess.Popen(["/bin/sh", "-c", "echo up; read x"], stdin=-1, stdout=-1, env=environment)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"up\n"
        found = programs({}, {"device": process.pid})["device"]
    finally:
        process.kill()
        process.communicate()
    assert found.libraries == {str(library): hashlib.sha256(library.read_bytes()).hexdigest()}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the loader has another name")
def test_a_program_that_is_started_through_a_loader_is_named_and_not_the_loader(tmp_path: Path) -> None:
    own = tmp_path / "own-build"
    shutil.copy2("/bin/sleep", own)
    words = ["/lib64/ld-linux-x86-64.so.2", "--library-path", "/lib/x86_64-linux-gnu", str(own), "600"]
    process = subprocess.Popen(words)
    try:
        eventually(lambda: str(own) in Path(f"/proc/{process.pid}/maps").read_text())
        found = programs({}, {"device": process.pid})["device"]
    finally:
        process.kill()
        process.wait()
    assert found.path == str(own) and found.sha256 == hashlib.sha256(own.read_bytes()).hexdigest()
    assert "sleep" in found.version and str(own) not in found.libraries
    assert program_of(words) == own


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="no packages of Debian's here")
def test_a_package_is_claimed_only_for_the_file_that_it_holds() -> None:
    found = programs({"device": ["/bin/sleep"]}, {})["device"]
    assert found.package.startswith("coreutils ") and "but" not in found.package


def test_what_only_launches_is_not_the_program() -> None:
    assert program_of(["nsenter", "--mount=/proc/1/ns/mnt", "--", "/bin/sh", "-c", "x"]) == Path("/bin/sh").resolve()
    assert program_of(["/no/such/program"]) is None
    assert program_of([]) is None


class Host(Ops):
    """An agent that answers as a host with ZFS does."""

    @property
    def calls(self) -> Ops:
        return self

    def perform(self, op: str, *arguments: Any, **kw: Any) -> Any:
        if op == "slurp":
            return (
                b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                b"40 22 0:30 / /tank/a\\040share rw,nodev,noatime - zfs tank/share rw,xattr,posixacl\n"
                b"41 22 0:31 / /tank/a rw - tmpfs tmpfs rw\n"
            )
        assert arguments[0][-1] == "tank/share"
        return {"status": 0, "stdout": b"setuid\toff\ndevices\toff\nused\t4G\n", "stderr": b""}


def test_the_exported_file_system_is_reported_with_the_properties_of_its_dataset() -> None:
    found = exported(cast(AgentLink, Host()), "/tank/a share/export")
    assert found is not None
    assert (found.type, found.source, found.mount_point) == ("zfs", "tank/share", "/tank/a share")
    assert found.options == "rw,nodev,noatime,xattr,posixacl"
    assert found.properties == {"setuid": "off", "devices": "off"}


def test_a_share_that_nobody_outside_sees_has_no_file_system_to_report() -> None:
    nowhere = Nowhere("in the memory of the emulator")
    with pytest.raises(Undrivable):
        nowhere.calls.slurp("/proc/self/mountinfo")
    assert exported(nowhere, "/x") is None


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        (
            {"GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "a/b", "GITHUB_RUN_ID": "7"},
            "https://github.com/a/b/actions/runs/7",
        ),
        ({"CI_JOB_URL": "https://gitlab.com/a/-/jobs/1"}, "https://gitlab.com/a/-/jobs/1"),
        ({"BUILD_URL": "https://ci.freebsd.org/job/x/2/"}, "https://ci.freebsd.org/job/x/2/"),
        ({"CIRRUS_TASK_ID": "12"}, "https://cirrus-ci.com/task/12"),
        ({"HOME": "/root"}, ""),
    ],
)
def test_the_ci_job_is_named_where_the_environment_says(environ: dict[str, str], url: str) -> None:
    assert job_url(environ) == url


def test_the_profiles_of_a_target_are_named_by_their_bytes() -> None:
    found = files_of("qemu")
    assert list(found) == [
        "conformance/targets/qemu.toml",
        "conformance/profiles/qemu-device.toml",
        "conformance/profiles/linux-client.toml",
    ]
    assert all(len(digest) == 64 for digest in found.values())


def test_the_machines_of_an_older_record_are_read() -> None:
    older = {"schema_version": 2, "target": "qemu", "started": "2026-01-01T00:00:00Z", "other_argv": {"gw1": ["qemu"]}}
    assert Environment.model_validate(older).machines["gw1"].argv == ["qemu"]
