"""Kind `hypervisor` for real: the shipped target `qemu-remote`, on a QEMU that its commands start on this host.

The guest is the suite's own image. SSH reaches it as any guest: by a configuration, a key and a known host.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path

import pytest

from conformance.evidence.record import load_run
from conformance.sut.asked import asked_of
from conformance.sut.load import load
from conformance.sut.registry import kind_of
from conformance.vfs.mount_options import MountOptions
from guests.images.store import Image, ensure_image
from guests.machines.qemu.argv import KERNEL_COMMAND_LINE

STEADY = KERNEL_COMMAND_LINE.replace("tsc=reliable", "clocksource=hpet")
"""A kernel measures the TSC's speed wrongly on a busy host; the HPET's speed is known."""

pytestmark = [
    pytest.mark.guest,
    pytest.mark.long,
    pytest.mark.skipif(os.geteuid() != 0, reason="owners of files outside are compared, which takes root"),
]


@pytest.fixture(scope="module")
def image() -> Image:
    return ensure_image("debian12")


@pytest.fixture
def options(image: Image, tmp_path: Path) -> dict[str, str | tuple[str, ...]]:
    """The options that a user gives: the disk, the guest's SSH address, the place of the share."""
    host_key = image.known_host.read_text().split()
    (tmp_path / "known_hosts").write_text(
        f"the-guest {' '.join(host_key[-2:] if len(host_key) < 3 else host_key[:2])}\n"
    )
    (tmp_path / "ssh").write_text(
        f"Host 127.0.0.1\n HostKeyAlias the-guest\n UserKnownHostsFile {tmp_path}/known_hosts\n"
        f" IdentityFile {image.key}\n IdentityAgent none\n"
    )
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "control.qcow2"), "1G"], check=True)
    more = (
        f"-kernel {image.vmlinux} -initrd {image.initramfs} -append '{STEADY}' -cpu max "
        f"-drive if=virtio,format=qcow2,file={tmp_path}/control.qcow2"
    )
    return {
        "guest": "root@127.0.0.1:{port}",
        "outside": str(tmp_path / "share"),
        "control_dir": "/control",
        "ssh_config": str(tmp_path / "ssh"),
        "value": (f"disk={image.root}", f"more={more}"),
    }


def test_cases_run_and_nothing_is_left(options: dict[str, str | tuple[str, ...]], tmp_path: Path) -> None:
    words = ["--guest", options["guest"], "--outside", options["outside"], "--control-dir", options["control_dir"]]
    words += ["--ssh-config", options["ssh_config"], *(word for one in options["value"] for word in ("--value", one))]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "assay9",
            "run",
            "qemu-remote",
            "-k",
            "OPEN-001 or STAT-001 or ROMOUNT-002 or NODEV-001 or NESTED-001 or FULL-001",
        ]
        + [str(word) for word in words]
        + [f"--results={tmp_path}/results"],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert "qemu-remote: nothing unexpected" in done.stdout
    record = load_run(tmp_path / "results" / "latest")
    passed = {result.id.partition("[")[0] for result in record.results if result.verdict == "pass"}
    assert {"OPEN-001", "ROMOUNT-002", "NESTED-001", "FULL-001"} <= passed, "cases of the layer property, too"
    assert record.environment.access.startswith("SSH to root@127.0.0.1:")
    assert not any((tmp_path / "share").iterdir()), "the share is as it was"
    running = subprocess.run(["pgrep", "-f", f"path={tmp_path}/share"], capture_output=True, check=False)
    assert running.returncode == 1, "no machine is left"


def test_a_machine_that_loses_its_power_comes_back(options: dict[str, str | tuple[str, ...]], tmp_path: Path) -> None:
    target = load("qemu-remote")
    made = kind_of(target).deployment(asked_of(target, options), tmp_path, print)
    made.start()
    try:
        made.mount(MountOptions())
        made.inside.calls.write_text(f"{made.inside_root}/a", "kept")
        paused = made.power.pause()
        assert "kill -STOP" in paused["command"]
        made.power.resume()
        assert made.trouble() is None
        made.power.cut()
        assert (made.trouble() or "").startswith("the machine ended")
        made.recover()
        made.mount(MountOptions())
        assert made.inside.calls.read_text(f"{made.inside_root}/a") == "kept"
    finally:
        made.stop()
    assert not any((tmp_path / "share").iterdir())


def test_a_machine_is_restored_from_its_snapshot_and_its_clock_is_right(
    options: dict[str, str | tuple[str, ...]], tmp_path: Path
) -> None:
    """`save` and `restore` use QEMU's monitor, in a copy of the shipped file such as a user would make."""
    (tmp_path / "mine.toml").write_text(with_snapshots(Path(str(files("conformance.targets") / "qemu-remote.toml"))))
    target = load(str(tmp_path / "mine.toml"))
    made = kind_of(target).deployment(asked_of(target, options), tmp_path, print)
    made.start()
    try:
        made.mount(MountOptions())
        made.inside.calls.write_text("/run/later", "made after the snapshot")
        made.inside.calls.write_text(f"{made.inside_root}/a", "kept")
        booted = made.inside.calls.lstat("/dev/null")["st_ctime_ns"]  # boot_id is drawn when it is first read
        made.recover()
        assert made.inside.calls.lstat("/dev/null")["st_ctime_ns"] == booted, "it has not booted again"
        assert "later" not in made.inside.calls.listdir("/run"), "it is as it was saved"
        now = float(made.inside.calls.run(["date", "+%s"])["stdout"])
        assert abs(now - time.time()) < 60, "its clock is not that of the snapshot"
        made.mount(MountOptions())
        assert made.inside.calls.read_text(f"{made.inside_root}/a") == "kept", "the share is none of the snapshot's"
        assert made.trouble() is None
    finally:
        made.stop()
    assert not any((tmp_path / "share").iterdir())


def with_snapshots(shipped: Path) -> str:
    """The text of the file, with a monitor added to its machine for saving and restoring."""
    ask = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); f=s.makefile('rwb'); "
    ask += "f.write(sys.argv[2].encode()+b'\\ninfo name\\n'); f.flush(); d=b''\n"
    ask += "while sys.argv[3].encode() not in d: d+=s.recv(4096)\n"
    ask += "sys.exit(d.decode(errors='replace') if b'Error' in d else 0)"
    lines = [
        f"""{key} = '''python3 -c "{ask}" {{run}}/monitor "{command}" {{name}}'''"""
        for key, command in (("save", "savevm ready"), ("restore", "loadvm ready"))
    ]
    monitor = "-monitor unix:{run}/monitor,server=on,wait=off -serial "
    return shipped.read_text().replace("-serial ", monitor).replace("[machine]\n", "\n".join(["[machine]", *lines, ""]))
