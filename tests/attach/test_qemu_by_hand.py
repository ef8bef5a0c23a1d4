"""A QEMU guest with shares that the test starts by hand: `attach` finds it, judges it, leaves it as it was."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conformance.evidence.record import load_run
from guests.errors import InfrastructureError
from guests.host.waiting import wait_until
from guests.machines.qemu.machine import QemuMachine
from guests.machines.spec import MachineSpec, Share
from soak.journal import open_existing
from soak.judges import ACCEPTABLE
from tests.waiting import PATIENT, complaint

pytestmark = pytest.mark.long

LOOK = "mount -t 9p; ls -a /mnt /var/tmp /control /sys/kernel/tracing/instances; ls -aR /mnt/theirs"


@dataclass
class ByHand:
    """The guest, as its user started it."""

    machine: QemuMachine
    directory: Path
    config: Path

    def look(self) -> str:
        """The guest's mounts and the files that a run could have left in it."""
        return self.machine.shell().run(LOOK).stdout

    def run(self, *words: str, share: str = "work", outside: Path | None = None) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "assay9", "run", "attach", "--guest=vm", f"--ssh-config={self.config}"]
        argv += [f"--outside={outside or self.directory / share}", "--control-dir=/control"]
        argv += [] if any(word.startswith("--family") for word in words) else ["--family=symlink"]
        argv += (
            [] if any(word.startswith("--results") for word in words) else [f"--results={self.directory / 'results'}"]
        )
        argv += words
        return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ByHand]:
    directory = tmp_path_factory.mktemp("by-hand")
    directory.chmod(0o755)
    shares = tuple(Share(tag, directory / tag, readonly=tag == "fixed") for tag in ("work", "fixed"))
    for share in shares:
        share.path.mkdir()
        (share.path / "theirs").write_text("not the suite's")
    machine = QemuMachine(MachineSpec(image="debian12", run_dir=directory / "machine", shares=shares))
    with machine:
        known = directory / "known_hosts"
        kind, blob = machine.image.known_host.read_text().split()[:2]
        known.write_text(f"[127.0.0.1]:{machine.ssh_port} {kind} {blob}\n")
        config = directory / "config"
        config.write_text(
            f"Host vm\n  HostName 127.0.0.1\n  Port {machine.ssh_port}\n  User root\n"
            f"  IdentityFile {machine.image.key}\n  UserKnownHostsFile {known}\n"
        )
        yield ByHand(machine, directory, config)


def test_a_share_that_runs_already_is_soaked_with_the_process_that_serves_it(by_hand: ByHand, tmp_path: Path) -> None:
    before, files = by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))
    (tmp_path / "pid").write_text(str(by_hand.machine.pid))
    argv = [sys.executable, "-m", "assay9", "soak", "run", "attach", "--guest=vm", f"--ssh-config={by_hand.config}"]
    argv += [f"--outside={by_hand.directory / 'work'}", "--tag=work", "--control-dir=/control", "--workload=tree"]
    argv += ["--iterations=2", "--sample=1", f"--process=pidfile:{tmp_path / 'pid'}", "--fault=signals"]
    argv += ["--fault-every=5s", *(f"--accept-unknown={judge}" for judge in ACCEPTABLE)]
    argv += [f"--results={tmp_path / 'results'}"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))) == (before, files)
    (run_dir,) = (tmp_path / "results").glob("soak-*")
    with open_existing(run_dir, writable=False) as journal:
        assert any(sample.values.get("device.rss_mb", 0) > 1 for sample in journal.samples())
        assert [i.outcome for i in journal.iterations()] == ["pass", "pass"]


def test_the_device_is_driven_from_user_space_and_given_back(by_hand: ByHand) -> None:
    shell = by_hand.machine.shell()
    assert shell.run("echo 3 > /proc/sys/vm/nr_hugepages").ok
    before, files = by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))
    refused = by_hand.run("--tag=work", "--layer=wire", "--family=walk")
    assert refused.returncode == 2 and "layer wire takes the share's device" in refused.stderr
    for words, least in (
        (("--layer=wire", "--family=walk", "-k", "not WIRE-WALK-020"), 10),
        (("--layer=ring", "--family=config"), 3),
    ):
        done = by_hand.run("--tag=work", "--allow=guest-pci", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        record = load_run(newest(by_hand))
        assert sum(one.verdict == "pass" for one in record.results) >= least, record.counts
        assert record.environment.access.startswith("SSH to "), record.environment.access
    assert (by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))) == (before, files)
    assert shell.run("cat /proc/sys/vm/nr_hugepages").stdout.strip() == "3"
    mounted = shell.run(
        "mkdir /mnt/y && mount -t 9p -o trans=virtio work /mnt/y && ls /mnt/y && umount /mnt/y; rmdir /mnt/y"
    )
    assert mounted.stdout.strip() == "theirs", "the guest's kernel has the device again"


@pytest.mark.parametrize("days", [1, -1])
def test_a_clock_that_is_a_day_off_changes_no_verdict(by_hand: ByHand, days: int) -> None:
    shell, before = by_hand.machine.shell(), by_hand.look()
    set_by = f"date -s @$(( $(date +%s) + {days * 86400} ))"
    assert shell.run(set_by).ok
    try:
        done = by_hand.run("--tag=work", "--family=times", "--family=stat")
    finally:
        assert shell.run(f"date -s @$(( $(date +%s) - {days * 86400} ))").ok
    assert done.returncode == 0, done.stdout + done.stderr
    assert sum(one.verdict == "pass" for one in load_run(newest(by_hand)).results) > 20
    assert by_hand.look() == before


def newest(by_hand: ByHand) -> Path:
    return max((by_hand.directory / "results").glob("*-attach"))


def test_a_tag_is_mounted_judged_and_given_back(by_hand: ByHand) -> None:
    before, files = by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))
    done = by_hand.run("--tag=work")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))) == (before, files)
    record = load_run(newest(by_hand))
    assert record.environment.access == "SSH to vm"
    assert record.environment.security_model == "passthrough"
    assert sum(one.verdict == "pass" for one in record.results) > 50
    assert {one.mount for one in record.results} == {"cache=none"}


def test_two_agents_in_the_guest_have_one_mount_and_a_trace_each(by_hand: ByHand) -> None:
    before, files = by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))
    done = by_hand.run("--tag=work", "--jobs=2", "--family=open", "--family=stat")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (by_hand.look(), sorted(by_hand.directory.glob("work/**/*"))) == (before, files)
    judged = load_run(newest(by_hand)).results
    assert {one.worker for one in judged} == {"gw0", "gw1"} and {one.mount for one in judged} == {"cache=none"}
    assert sum(one.verdict == "pass" for one in judged) > 50


def test_a_mounted_share_is_judged_as_it_is_and_stays_mounted(by_hand: ByHand) -> None:
    shell = by_hand.machine.shell()
    assert shell.run("mkdir -p /mnt/x; mount -t 9p -o trans=virtio,version=9p2000.L,cache=mmap work /mnt/x").ok
    before = by_hand.look()
    assert "work on /mnt/x" in before
    refused = by_hand.run("--tag=work")
    done = by_hand.run("--mounted=/mnt/x")
    after = by_hand.look()
    assert shell.run("umount /mnt/x; rmdir /mnt/x").ok
    assert refused.returncode == 2 and "work is mounted already, say --mounted /mnt/x instead" in refused.stderr
    assert done.returncode == 0, done.stdout + done.stderr
    assert after == before
    judged = [one for one in load_run(newest(by_hand)).results if one.verdict == "pass"]
    assert judged and all(one.mount.startswith("cache=mmap") for one in judged)


def test_what_is_no_such_share_is_refused_in_one_line_and_nothing_is_left(by_hand: ByHand, tmp_path: Path) -> None:
    before = by_hand.look()
    for words, outside, refusal in (
        (("--tag=work",), tmp_path, "is not the directory"),
        (("--tag=fixed",), by_hand.directory / "fixed", "cannot be written"),
        (("--tag=wrok",), None, "did you mean 'work'"),
        (("--mounted=/mnt/nothing",), None, "--mounted: nothing is mounted at /mnt/nothing in vm"),
    ):
        done = by_hand.run(*words, outside=outside)
        assert done.returncode == 2, done.stdout + done.stderr
        assert refusal in done.stderr and len(complaint(done.stderr)) == 1, done.stderr
    assert by_hand.look() == before
    assert list(tmp_path.iterdir()) == []
    assert [path.name for path in (by_hand.directory / "fixed").iterdir()] == ["theirs"]


def test_a_guest_that_reboots_by_itself_is_named_and_the_run_goes_on(by_hand: ByHand) -> None:
    """This test comes last: afterwards the contents of the guest's memory are gone."""
    machine, results = by_hand.machine, by_hand.directory / "rebooting"
    machine.qmp("set-action", limit=PATIENT, reboot="reset")  # the suite's machines end at a reboot

    def reboot() -> None:
        wait_until(lambda: any(results.glob("*/cases-*.jsonl")), PATIENT, "no case was judged")
        with contextlib.suppress(InfrastructureError, TimeoutError):  # the guest is gone before it can answer
            machine.shell().run("echo b > /proc/sysrq-trigger", PATIENT)

    thread = threading.Thread(target=reboot)
    thread.start()
    done = by_hand.run("--tag=work", "--family=stat", f"--results={results}")
    thread.join()
    machine.shell().close()  # the guest is gone, and the connection may not have noticed
    (run_dir,) = results.glob("*-attach")
    judged = load_run(run_dir).results
    hit = [one for one in judged if one.verdict != "pass"]
    assert 1 <= len(hit) <= 3 and len(judged) > 20, done.stdout
    assert any("the guest rebooted" in one.reason for one in hit), [one.reason for one in hit]
    assert sorted(path.name for path in by_hand.directory.glob("work/*")) == ["theirs"]
    assert "9p" not in by_hand.look()
