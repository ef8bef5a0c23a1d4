"""What is broken beneath the suite is an error of the infrastructure, never a failure of the target.

These tests use the target `local` and User-Mode Linux guests, which start quickly; `test_recovery` does it with QEMU.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from conformance.evidence.models import CaseResult
from conformance.ground import SCRATCH_MB, GroundLost, HostGround, Place
from conformance.run.mounted import Runner
from conformance.run.start import start
from conformance.sut.load import load
from conformance.sut.local.deployment import LocalDeployment
from conformance.sut.local.tables import LocalTarget
from conformance.sut.parts.process import ServerProcess
from conformance.sut.uml.deployment import UmlDeployment
from conformance.sut.uml.tables import UmlTarget
from conformance.vfs.mount_options import MountOptions
from conformance.vfs.share import Share
from guests.agent.clock import MOST_OFFSET
from guests.host import endings
from guests.images.recipe import load_recipe
from guests.images.store import find_image
from guests.machines.console import ConsoleWatch
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import MachineSpec
from guests.machines.uml.kernel import find_kernel
from guests.machines.uml.launch import UmlLaunch
from tests.conformance.ground_cases import Run, harmless, on
from tests.targets import asked, loaded

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="root: mounts, and servers under test are contained")


def is_error_of_ground(seen: CaseResult, words: str) -> bool:
    """Assert that the result names in one line what broke, and is neither pass nor fail."""
    assert (seen.verdict, seen.infrastructure) == ("error", True), seen.reason
    assert words in seen.reason and "\n" not in seen.reason, seen.reason
    return True


# ---- no guest at all


@pytest.fixture
def local(tmp_path: Path) -> Iterator[tuple[Run, LocalDeployment]]:
    deployment = LocalDeployment(loaded("local", LocalTarget), tmp_path, print)
    deployment.start()
    runner = Runner(load("local"), deployment, control="never", worker="main")
    yield on(runner), deployment
    runner.stop()


@pytest.mark.parametrize("which", ["outside", "inside"])
def test_an_agent_that_somebody_kills_is_started_again(local: tuple[Run, LocalDeployment], which: str) -> None:
    run, deployment = local

    def loses_it(share: Share) -> None:
        within = deployment._within
        assert within is not None
        os.kill(deployment.host.pid if which == "outside" else within.pid, signal.SIGKILL)
        getattr(share, which).create("after", b"content")

    assert is_error_of_ground(run(loses_it), f"the agent {which} was ended by SIGKILL")
    assert run(harmless).verdict == "pass"


@pytest.mark.parametrize("which", ["inside", "inside, a further process", "outside", "outside, a further process"])
def test_an_agent_that_somebody_stops_is_started_again(local: tuple[Run, LocalDeployment], which: str) -> None:
    """A process that is stopped during its call must not be taken for a share that hangs."""
    run, deployment = local
    side = which.split(",", maxsplit=1)[0]

    def stops(share: Share) -> None:
        within = deployment._within
        assert within is not None
        vantage = getattr(share, side)
        if which == side:
            os.kill(deployment.host.pid if side == "outside" else within.pid, signal.SIGSTOP)
        else:
            vantage = vantage.spawn("other")
            os.kill(vantage.getpid(), signal.SIGSTOP)
        vantage.timeout = 0.5
        vantage.create("after", b"content")

    assert is_error_of_ground(run(stops), " is stopped: process ")
    assert run(harmless).verdict == "pass"


def test_an_agent_that_is_killed_while_the_case_passes_is_no_finding_either(
    local: tuple[Run, LocalDeployment],
) -> None:
    """The cleanup fails because of the killed agent, not because the case left files that cannot be removed."""
    run, deployment = local

    def passes(share: Share) -> None:
        share.inside.create("before", b"content")
        share.settle()
        os.kill(deployment.host.pid, signal.SIGKILL)

    assert is_error_of_ground(run(passes), "the agent outside was ended by SIGKILL")
    assert run(harmless).verdict == "pass"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_an_export_that_somebody_takes_away_is_made_again(local: tuple[Run, LocalDeployment], how: str) -> None:
    run, deployment = local
    export = Path(deployment.outside_root)

    def loses_it(share: Share) -> None:
        export.rename(export.with_name("away"))
        if how == "replaced":
            export.mkdir()
        share.inside.create("after", b"content")

    assert is_error_of_ground(run(loses_it), f"the exported directory {export} was {how}")
    assert run(harmless).verdict == "pass"
    shutil.rmtree(export)  # between two cases
    assert is_error_of_ground(run(harmless), f"the exported directory {export} was removed")
    assert run(harmless).verdict == "pass"


def test_on_sound_ground_a_failure_is_the_targets(local: tuple[Run, LocalDeployment]) -> None:
    run, _ = local

    def fails(share: Share) -> None:
        share.inside.open("absent", os.O_RDONLY)

    assert run(fails).verdict == "fail"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A scratch directory on a file system of its own, with just enough room."""
    scratch = tmp_path / "small"
    scratch.mkdir()
    size = SCRATCH_MB + 20
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=755", "small", str(scratch)], check=True)
    monkeypatch.setenv("ASSAY9_SCRATCH", str(scratch))
    yield scratch
    subprocess.run(["umount", "--lazy", str(scratch)], check=True)


def fill(directory: Path) -> Path:
    """Fill the file system."""
    filling = directory / "filling"
    with filling.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(directory).free)
    return filling


@needs_root
def test_a_full_scratch_file_system_is_an_error_and_the_run_goes_on_with_room(small: Path, tmp_path: Path) -> None:
    deployment = LocalDeployment(loaded("local", LocalTarget), tmp_path, print)
    deployment.start()
    runner = Runner(load("local"), deployment, control="never", worker="main")
    run = on(runner)
    try:
        assert run(harmless).verdict == "pass"

        def has_no_room(share: Share) -> None:
            fill(small)
            share.inside.create("big", b"x" * 65536)

        words = f"no space for the exported files in {deployment._base}: 0 MB free, {SCRATCH_MB} are needed"
        assert is_error_of_ground(run(has_no_room), words)
        inside = deployment.inside
        refused = run(harmless)
        assert is_error_of_ground(refused, words) and not refused.calls, "it was not even begun"
        (small / "filling").unlink()
        assert run(harmless).verdict == "pass" and deployment.inside is inside, "nothing had to be started again"
    finally:
        runner.stop()


@needs_root
def test_a_scratch_file_system_without_room_is_reported_before_anything_starts(small: Path, tmp_path: Path) -> None:
    filling = fill(small)
    runner = start(asked("local"), tmp_path, lambda _: None, "main", "never", "vfs")
    filling.unlink()
    assert isinstance(runner.broken, GroundLost) and "ASSAY9_SCRATCH" in str(runner.broken)
    assert not list(small.iterdir())


def test_room_is_counted_in_bytes_and_in_inodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place("things", tmp_path, 10, "free some")
    assert HostGround([place]).without_room() is None
    real = os.statvfs(tmp_path)

    def without_inodes(_: Path) -> os.statvfs_result:
        fields = list(real)
        fields[5], fields[7] = 1000, 3  # f_files, f_favail
        return os.statvfs_result(fields)

    monkeypatch.setattr(os, "statvfs", without_inodes)
    assert "3 inodes free" in str(HostGround([place]).without_room())


# ---- what is reported about processes and consoles


@pytest.mark.parametrize(
    ("status", "words", "sent"),
    [
        (None, "", None),
        (0, "", None),
        (1, "", None),
        (-9, "", "SIGKILL"),
        (-15, "", "SIGTERM"),
        (-1, "", "SIGHUP"),
        (-2, "", "SIGINT"),
        (-11, "", None),
        (-6, "", None),
        (-7, "", None),
        (-4, "", None),
        (-8, "", None),
        (-13, "", None),
        (-31, "", None),
        (137, "", None),
        (0, "qemu-system-x86_64: terminating on signal 15 from pid 71 (bash)", "SIGTERM from process 71 (bash)"),
        (0, "qemu-system-x86_64: terminating on signal 2", "SIGINT"),
    ],
)
def test_which_ends_are_somebody_elses_doing(status: int | None, words: str, sent: str | None) -> None:
    assert endings.sent_signal(status, words) == sent


def test_a_shell_in_between_reports_signals_by_its_status() -> None:
    assert endings.sent_signal(137, by_shell=True) == "SIGKILL"
    assert endings.sent_signal(139, by_shell=True) is None
    assert endings.sent_signal(134, by_shell=True) is None


def test_kills_for_want_of_memory_are_counted_in_either_version_of_control_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = {
        "memory/some/where/memory.oom_control": "under_oom 0\noom_kill {}\n",
        "where/memory.events": "oom 1\noom_kill {}\n",
    }
    for name, text in groups.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text.format(3))
    (tmp_path / "cgroup").write_text("4:memory:/some/where\n0::/where\n")
    monkeypatch.setattr(endings, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(endings, "_CGROUPS", tmp_path)
    monkeypatch.setattr(endings, "_VMSTAT", tmp_path / "none")
    for name, text in groups.items():
        counted = endings.OutOfMemory()
        assert counted.kills() == 0
        (tmp_path / name).write_text(text.format(4))
        assert counted.kills() > 0


@pytest.mark.parametrize(
    "line",
    [
        "[   12.345678] SQUASHFS error: Failed to read block 0x1d2f4a0: -5",
        "SQUASHFS error: Unable to read data cache entry [1d2f4a0]",
        "[    3.000000] I/O error, dev vda, sector 8192 op 0x0:(READ) flags 0x80700 phys_seg 1 prio class 2",
        "blk_update_request: I/O error, dev ubda, sector 1264 op 0x0:(READ)",
        "Buffer I/O error on dev vdb, logical block 5, lost async page write",
        "EXT4-fs error (device vdb): ext4_find_entry:1612: inode #2: comm python3: reading directory lblock 0",
        "EXT4-fs (sdb): Remounting filesystem read-only",
        "kworker/u2:1: attempt to access beyond end of device\n[   12.3] vda: rw=0, sector=175, limit=16",
    ],
)
def test_the_console_shows_when_one_of_the_guests_own_disks_fails(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text(f"before\n{line}\nafter\n")
    assert ConsoleWatch(tmp_path / "log").own_disk_failure(0) is not None
    assert any(event.kind == "disk" for event in ConsoleWatch(tmp_path / "log").since(0))
    assert ConsoleWatch(tmp_path / "log").own_disk_failure(len(line) + 20) is None


@pytest.mark.parametrize(
    "line",
    [
        "I/O error, dev loop0, sector 0 op 0x0:(READ) flags 0x0",
        "EXT4-fs error (device loop3): ext4_lookup",
        "EXT4-fs (vdb): mounted filesystem with ordered data mode",
        "9pnet: Couldn't grow tag array",
        "Buffer I/O error on dev vdc, logical block 5",
    ],
)
def test_other_disks_and_the_share_are_not_the_suites_ground(tmp_path: Path, line: str) -> None:
    (tmp_path / "log").write_text(line)
    assert ConsoleWatch(tmp_path / "log").own_disk_failure(0) is None


@pytest.mark.parametrize(
    ("event", "words"),
    [
        (
            {"event": "BLOCK_IO_ERROR", "data": {"device": "state", "reason": "No space left on device"}},
            "QEMU could not use the guest's own disk: No space left on device",
        ),
        ({"event": "SHUTDOWN", "data": {"guest": False, "reason": "host-signal"}}, "QEMU was ended by SIGTERM"),
        ({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}}, ""),
        ({"event": "GUEST_PANICKED", "data": {"action": "pause"}}, ""),
    ],
)
def test_qemu_reports_what_was_not_its_guests_doing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, event: dict[str, object], words: str
) -> None:
    class Ended:
        """A start of QEMU that has ended."""

        process = None

        def sent_signal(self, within: float = 0.0) -> str | None:
            return "SIGTERM" if "host-signal" in str(event) else None

    machine = QemuMachine(MachineSpec(image="debian12", run_dir=tmp_path))
    machine._launch = Ended()  # type: ignore[assignment]
    monkeypatch.setattr(machine, "events", lambda: [event])
    lost = machine.ground_lost(endings.OutOfMemory())
    assert (lost is None) == (not words)
    assert words in str(lost)


# ---- a guest under User-Mode Linux

needs_uml = [
    needs_root,
    pytest.mark.guest,
    pytest.mark.skipif(find_kernel() is None, reason="the UML kernel is not built: assay9 guest build uml"),
    pytest.mark.skipif(find_image(load_recipe("debian12")) is None, reason="no guest image: assay9 guest build"),
]


def marked(function: object) -> object:
    """A test that needs a User-Mode Linux guest."""
    for mark in needs_uml:
        function = mark(function)
    return function


@pytest.fixture(scope="module")
def uml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Run, UmlDeployment]]:
    deployment = UmlDeployment(loaded("reference-uml", UmlTarget), tmp_path_factory.mktemp("run"), print)
    runner = Runner(load("reference-uml"), deployment, control="never", worker="main")
    try:
        deployment.start()
        yield on(runner), deployment
    finally:
        runner.stop()


@marked
@pytest.mark.parametrize("who", ["hypervisor", "device"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_guest_or_a_device_that_is_killed_or_crashes(
    uml: tuple[Run, UmlDeployment], who: str, number: signal.Signals
) -> None:
    run, deployment = uml

    def ends(share: Share) -> None:
        os.kill(deployment.processes()[who], number)
        share.inside.timeout = 1.0
        share.inside.create("after", b"content")

    seen = run(ends)
    if number == signal.SIGKILL:
        assert is_error_of_ground(seen, "was ended by SIGKILL")
    else:
        assert seen.verdict == "fail", seen.reason
    assert run(harmless).verdict == "pass"


@marked
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_of_the_guest_that_somebody_ends_or_stops_on_this_host(
    uml: tuple[Run, UmlDeployment], number: signal.Signals
) -> None:
    """The guest's process gets SIGSEGV, which must not be taken for a crash that the share causes."""
    run, deployment = uml

    def traced() -> set[int]:
        kernel = psutil.Process(deployment.processes()["hypervisor"])
        return {child.pid for child in kernel.children(recursive=True) if child.status() == psutil.STATUS_TRACING_STOP}

    def loses_one(share: Share) -> None:
        before = traced()
        other = share.inside.spawn("other")
        other.getpid()
        for pid in traced() - before:
            os.kill(pid, number)
        other.create("after", b"content")

    assert is_error_of_ground(run(loses_one), "another process ended or stopped a process of User-Mode Linux")
    assert run(harmless).verdict == "pass"


@marked
def test_a_kernel_that_is_killed_ends_before_what_waits_for_it(uml: tuple[Run, UmlDeployment]) -> None:
    """The guest's sockets close at once, but how the kernel ended is known only after its parent has ended too."""
    run, deployment = uml
    launch = deployment.machine._launch
    assert isinstance(launch, UmlLaunch) and launch.process is not None
    waiting = launch.process.pid

    def ends(share: Share) -> None:
        os.kill(waiting, signal.SIGSTOP)
        os.kill(deployment.processes()["hypervisor"], signal.SIGKILL)
        threading.Timer(0.5, os.kill, (waiting, signal.SIGCONT)).start()
        share.inside.create("after", b"content")

    assert is_error_of_ground(run(ends), "was ended by SIGKILL")


@marked
def test_a_killed_agent_outside_takes_guest_and_devices_into_a_new_namespace(uml: tuple[Run, UmlDeployment]) -> None:
    run, deployment = uml
    before = deployment.processes()

    def loses_it(share: Share) -> None:
        os.kill(deployment.host.pid, signal.SIGKILL)
        share.outside.create("after", b"content")

    assert is_error_of_ground(run(loses_it), "the agent outside was ended by SIGKILL")
    assert run(harmless).verdict == "pass"
    assert not set(before.values()) & set(deployment.processes().values())


@marked
def test_an_export_that_is_removed_beneath_a_guest(uml: tuple[Run, UmlDeployment]) -> None:
    run, deployment = uml

    def loses_it(share: Share) -> None:
        shutil.rmtree(deployment.exports[0])
        share.inside.create("after", b"content")

    assert is_error_of_ground(run(loses_it), "was removed while it was in use")
    assert run(harmless).verdict == "pass"


@marked
def test_a_damaged_image_is_an_error_not_26_failures_and_is_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_runtime: Path
) -> None:
    """The test cuts the image's root to 30 MB while its guest runs, in a cache of its own."""
    image, kernel = find_image(load_recipe("debian12")), find_kernel()
    assert image is not None and kernel is not None
    cache = tmp_path / "cache" / "assay9"
    shutil.copytree(image.directory, cache / "images" / image.directory.name)
    shutil.copytree(kernel.directory, cache / kernel.directory.name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    built = []

    def build(recipe: object, directory: Path, progress: object) -> None:
        built.append(directory)
        shutil.copytree(image.directory, directory, dirs_exist_ok=True)

    monkeypatch.setattr("guests.images.store.build", build)
    reported: list[str] = []
    deployment = UmlDeployment(loaded("reference-uml", UmlTarget), tmp_path, reported.append)
    runner = Runner(load("reference-uml"), deployment, control="never", worker="main")
    run = on(runner)
    root = cache / "images" / image.directory.name / "root.squashfs"

    def needs_what_is_gone(share: Share) -> None:
        os.truncate(root, 30_000_000)
        share.inside.agent.calls.write_text("/proc/sys/vm/drop_caches", "3")
        for name in ("/usr/bin/perl", "/usr/bin/python3.11", "/usr/sbin/sshd", "/usr/bin/ssh", "/bin/bash"):
            share.inside.agent.calls.hash_file(name)

    try:
        deployment.start()
        assert run(harmless).verdict == "pass"
        assert is_error_of_ground(run(needs_what_is_gone), "the guest's own disk failed (SQUASHFS error")
        assert len(built) == 1 and sum("is damaged (root.squashfs has 30000000 bytes" in line for line in reported) == 1
        assert run(harmless).verdict == "pass"
    finally:
        runner.stop()


@marked
def test_a_device_that_crashes_behind_the_back_of_a_case_is_charged_to_that_case(
    uml: tuple[Run, UmlDeployment],
) -> None:
    run, deployment = uml

    def passes(share: Share) -> None:
        share.inside.create("fred", b"content")
        share.settle()
        pid = deployment.processes()["device"]
        os.kill(pid, signal.SIGSEGV)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    seen = run(passes)
    assert seen.verdict == "fail" and "was killed by SIGSEGV" in seen.reason, seen.reason
    assert run(harmless).verdict == "pass"


@marked
def test_a_guest_whose_clock_went_wrong_is_started_again(uml: tuple[Run, UmlDeployment]) -> None:
    run, deployment = uml
    seen = deployment._clock_set
    # as if the clock had been set 100 s ago, and the guest had counted 570 s since
    deployment._clock_set = dataclasses.replace(seen, host=seen.host - 100, guest=seen.guest - 570)
    before = deployment.processes()
    assert is_error_of_ground(run(harmless), "times as fast as this host's")
    assert run(harmless).verdict == "pass" and not set(before.values()) & set(deployment.processes().values())
    deployment._clock_set = dataclasses.replace(
        deployment._clock_set, host=deployment._clock_set.host - 100, guest=deployment._clock_set.guest - 100
    )
    deployment.inside.calls.clock(600_000_000)  # 0.6 s ahead, and the next case sets it again
    assert run(harmless).verdict == "pass"
    again = deployment._clock.read()
    assert abs(again.offset) - again.unsure <= MOST_OFFSET


@marked
def test_a_guest_that_caches_forgets_the_pages_of_earlier_cases(uml: tuple[Run, UmlDeployment]) -> None:
    """Dropping inodes alone does not evict an inode with pages; the host may have reused its number by then."""
    run, deployment = uml
    kept, loose = f"{deployment.inside_root}/kept", MountOptions(cache="loose")
    deployment.outside.calls.create(f"{deployment.outside_root}/kept", b"content")

    def reads(share: Share) -> None:
        harmless(share)
        assert share.inside.agent.calls.read_text(kept) == "content"

    for _ in range(2):
        seen = run(reads, loose)
        assert seen.verdict == "pass", seen.reason
        assert seen.message_counts.get("Tread"), seen.message_counts


@marked
def test_a_guest_that_caches_forgets_the_files_that_earlier_cases_have_read(uml: tuple[Run, UmlDeployment]) -> None:
    """An inode whose access time is not written back is not dropped: its size was that of a later file."""
    run, deployment = uml
    names = [f"read-{number}" for number in range(100)]
    for name in names:
        deployment.outside.calls.create(f"{deployment.outside_root}/{name}", b"content")
    inodes: list[int] = []

    def count(share: Share) -> None:
        harmless(share)
        for name in names if not inodes else ():
            share.inside.agent.calls.read_text(f"{deployment.inside_root}/{name}")
        inodes.append(int(share.inside.agent.calls.read_text("/proc/sys/fs/inode-nr").split()[0]))

    for _ in range(2):
        seen = run(count, MountOptions(cache="loose"))
        assert seen.verdict == "pass", seen.reason
    assert inodes[1] < inodes[0] - len(names) / 2, inodes


@needs_root
def test_a_server_is_called_by_its_own_name(tmp_path: Path) -> None:
    argv = ["nsenter", f"--mount=/proc/{os.getpid()}/ns/mnt", "--", sys.executable, "-m", "http.server", "--help"]
    for words, name in ((argv, "http.server"), (argv[3:], "http.server"), (["sleep", "0"], "sleep")):
        process = ServerProcess(words, tmp_path / "log", writable=[tmp_path])
        assert process.name == name
        process.stop()
