"""Monitors read what the kernel prints."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import pytest

import soak.view
from soak.inside import watch
from soak.inside.elsewhere import memory
from soak.monitors.hostside import ExportMonitor, HostMonitor, LogWatch
from soak.monitors.load import LoadMonitor
from soak.monitors.process import ProcessMonitor
from soak.view import View
from tests.waiting import eventually

SMAPS = b"""\
7f0000000000-7f0020000000 rw-p 00000000 00:00 0
Size:             524288 kB
Rss:              400000 kB
Pss:              400000 kB
55d000000000-55d000100000 r-xp 00000000 fe:00 77 /usr/bin/qemu
Size:               1024 kB
Rss:                 512 kB
Pss:                 256 kB
"""
TRANSLATED = b"""\
7e0000000000-7e003ffff000 rwxp 00000000 00:00 0
Rss:             1048572 kB
Pss:             1048572 kB
"""


def test_memory_of_the_guest_is_not_the_devices() -> None:
    assert memory(SMAPS, 512) == {"own_mb": 0.5, "pss_mb": (400000 + 256) / 1024}
    assert memory(SMAPS, 0)["own_mb"] == (400000 + 512) / 1024
    assert memory(SMAPS, 384)["own_mb"] == (400000 + 512) / 1024, "a heap as large as a guest is a leak"
    assert memory(SMAPS.replace(b"rw-p", b"rw-s"), 384)["own_mb"] == 0.5, "vhost-user: the guest's memory is shared"
    without_kvm = memory(SMAPS + TRANSLATED, 512)
    assert (without_kvm["own_mb"], without_kvm["translated_mb"]) == (0.5, 1024 - 4 / 1024)


def test_a_process_is_measured() -> None:
    monitor = ProcessMonitor("me", os.getpid())
    first = monitor.sample()
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    ballast = bytearray(b"x" * (30 << 20))
    second = monitor.sample()
    for fd in held:
        os.close(fd)
    assert second["me.fds"] - first["me.fds"] == 20
    assert second["me.own_mb"] - first["me.own_mb"] > 25
    assert second["me.threads"] >= 1
    assert ballast and "me.cpu" in second and "me.cpu" not in first


def test_the_load_of_the_host_as_the_kernel_reports_it(tmp_path: Path) -> None:
    """Pressure and run queues are counters: the monitor records their increase since the last sample."""
    (tmp_path / "pressure").mkdir()

    def kernel(cpu: int, io: int, waited: int, running: int) -> None:
        (tmp_path / "pressure" / "cpu").write_text(f"some avg10=1.00 avg60=1.00 avg300=1.00 total={cpu}\nfull\n")
        (tmp_path / "pressure" / "io").write_text(f"some avg10=1.00 avg60=1.00 avg300=1.00 total={io}\nfull\n")
        (tmp_path / "schedstat").write_text(f"version 15\ncpu0 0 0 0 0 0 0 9 {waited} 7\ndomain0 3 1 2\n")
        (tmp_path / "loadavg").write_text(f"9.00 9.00 9.00 {running}/300 77\n")

    kernel(1_000_000, 500_000, 3_000_000_000, 4)
    monitor = LoadMonitor(tmp_path)
    begun = time.monotonic()
    time.sleep(0.05)
    kernel(1_020_000, 500_000, 3_200_000_000, 4)
    seen, passed = monitor.sample(), time.monotonic() - begun
    # at least as much time passed as was measured here, so the rates are at most these
    assert 0 < seen["host.cpu_pressure"] <= 0.02 / 0.05 and seen["host.io_pressure"] == 0
    assert 0.2 / passed * 0.5 <= seen["host.waiting"] <= 0.2 / 0.05
    assert seen["host.cpus"] == (os.cpu_count() or 1) and seen["host.yardstick_ms"] > 0


def test_without_accounts_of_the_kernel_the_run_queue_is_looked_at(tmp_path: Path) -> None:
    cpus = os.cpu_count() or 1
    (tmp_path / "loadavg").write_text(f"9.00 9.00 9.00 {cpus + 6}/300 77\n")
    monitor = LoadMonitor(tmp_path)
    monitor.look()
    seen = monitor.sample()
    assert seen["host.waiting"] == 5, "the task that looks runs, too"
    assert "host.cpu_pressure" not in seen
    (tmp_path / "loadavg").unlink()
    assert "host.waiting" not in monitor.sample()


def test_host_and_export(tmp_path: Path) -> None:
    monitor = HostMonitor(lambda: [os.getpid()])
    monitor.sample()
    assert monitor.sample()["host.available_mb"] > 0
    assert ExportMonitor(tmp_path).sample()["export.free_mb"] > 0


def test_a_log_is_read_by_whole_lines(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("old\n")
    watched = LogWatch(log)
    with log.open("a") as f:
        f.write("one\ntw")
    assert watched.lines() == ["one"]
    with log.open("a") as f:
        f.write("o\n")
    assert watched.lines() == ["two"]
    assert LogWatch(tmp_path / "none").lines() == []


def test_histograms_of_the_kernel() -> None:
    """Files as Linux 6.1 prints them."""
    text = (
        "# event histogram\n#\n{ type:        110, err:          0 } hitcount:          6\n"
        "{ type:        110, err: 4294967294 } hitcount:         10\n"
        "{ type:         24, err: 4294967294 } hitcount:          2\n"
    )
    counts = watch.parse(text)
    assert counts == {(110, 0): 6, (110, 4294967294): 10, (24, 4294967294): 2}
    assert watch.rates(counts, 2.0) == {
        "msg.total": 9.0,
        "msg.errors": 6.0,
        "msg.T110": 8.0,
        "msg.T24": 1.0,
        "msg.E2": 6.0,
    }


def test_the_view_shows_what_a_person_wants_to_know() -> None:
    view = View(io.StringIO(), terminal=True)
    view.iteration("tree", 3, "pass", 10.0, {"ops": 500})
    view.trouble("the guest died\nmore")
    view.latest = {"probe.stat_p50": 1.25, "msg.total": 900.0, "device.own_mb": 112.0}
    shown = view.shown(3700, 7200, [("tree", (4, 1), 77.0)])
    assert shown[0] == "1 h 01 min, 58 min 20 s left; 1 pass"
    assert shown[1] == "tree: iteration 4, 77 done (last 10 s, 50.0/s)"
    assert "stat 1.2 ms" in shown[2] and "device 112 MB" in shown[2] and "900 messages/s" in shown[2]
    assert shown[3] == "last trouble: the guest died"


def test_what_takes_long_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Earlier, a soak showed nothing until its first iteration: for minutes of booting and building."""
    monkeypatch.setattr(soak.view, "OFTEN", 0.02)
    stream = io.StringIO()
    view = View(stream, terminal=True)
    with view.phase("starting target qemu"):
        first = stream.getvalue()
        assert "starting target qemu (0 s)" in first
        eventually(lambda: len(stream.getvalue()) > len(first))  # drawn again, although nothing calls it
        with view.phase("booting"):
            assert "booting (0 s)" in stream.getvalue()
    view.tick(0.0, None, [("tree", (4, 1), 0.0)])
    view.close()
    assert "tree: iteration 4" in stream.getvalue()
    eventually(lambda: not [t for t in threading.enumerate() if "Refresh" in type(t).__name__])


def test_what_takes_long_is_a_line_a_minute_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak.view, "PLAIN", 0.02)
    stream = io.StringIO()
    view = View(stream, terminal=False)
    with view.phase("preparing workload kernel-build"):
        eventually(lambda: stream.getvalue().count("preparing workload kernel-build, since") >= 2)
    said = stream.getvalue()
    time.sleep(0.06)
    assert stream.getvalue() == said, "over"
    assert "\x1b" not in said


def test_elsewhere_it_writes_plain_lines() -> None:
    stream = io.StringIO()
    view = View(stream, terminal=False)
    view.iteration("tree", 3, "pass", 10.0, {"ops": 500})
    view.tick(0.0, None, [("tree", (4, 1), 0.0)])
    view.close()
    assert "\x1b" not in stream.getvalue()
    assert "tree 3  pass  10 s, 50.0/s" in stream.getvalue()
