"""The console watch finds a kernel's messages of trouble, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from guests.machines.console import ConsoleWatch, find_events

OOPS = """\
[   52.100001] BUG: kernel NULL pointer dereference, address: 0000000000000008
[   52.100100] #PF: supervisor read access in kernel mode
[   52.100200] Oops: 0000 [#1] PREEMPT SMP PTI
[   52.100300] CPU: 0 PID: 411 Comm: cat Not tainted 6.1.0-26-amd64 #1  Debian 6.1.112-1
[   52.100400] RIP: 0010:p9_client_read+0x1c/0x90 [9pnet]
[   52.100500] Call Trace:
[   52.100600]  <TASK>
[   52.100700]  v9fs_fid_readpage+0x5a/0xb0 [9p]
[   52.100800]  </TASK>
"""
WARNING = """\
[   60.000001] ------------[ cut here ]------------
[   60.000002] WARNING: CPU: 0 PID: 500 at fs/inode.c:332 drop_nlink+0x33/0x40
[   60.000003] Modules linked in: 9p 9pnet_virtio 9pnet
[   60.000004] ---[ end trace 0000000000000000 ]---
"""
HUNG = """\
[  242.741953] INFO: task umount:512 blocked for more than 20 seconds.
[  242.742000]       Not tainted 5.10.0-32-amd64 #1 Debian 5.10.223-1
[  242.742100] task:umount state:D stack:    0 pid:  512
[  242.742200] Call Trace:
[  242.742300]  p9_client_rpc+0x1a2/0x4c0 [9pnet]
"""
PANIC = """\
[   70.1] sysrq: Trigger a crash
[   70.2] Kernel panic - not syncing: sysrq triggered crash
[   70.3] ---[ end Kernel panic - not syncing: sysrq triggered crash ]---
"""
HEALTHY = """\
[    1.0] 9p: Installing v9fs 9p2000 file system support
[    1.1] 9pnet: Installing 9P2000 support
[    1.2] FS-Cache: Netfs '9p' registered for caching
[    1.3] EXT4-fs (vdb): mounted filesystem with ordered data mode. Quota mode: none.
ASSAY9-READY
root@assay9:~#
"""


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (OOPS, "oops"),
        (WARNING, "warning"),
        (HUNG, "hung-task"),
        (PANIC, "panic"),
        ("[  9.1] 9pnet_virtio: no channels available for device share9\n", "9p"),
        ("[  9.1] 9pnet: (00000411) bogus RWRITE count (4 > 3)\n", "9p"),
        ("[  9.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s! [cat:411]\n", "lockup"),
        ("[  9.1] rcu: INFO: rcu_preempt self-detected stall on CPU\n", "lockup"),
        ("[  9.1] BUG: sleeping function called from invalid context at mm/slab.h:1\n", "bug"),
        ("[  9.1] kernel BUG at fs/9p/vfs_inode.c:100!\n", "oops"),
        ("[  9.1] general protection fault, probably for non-canonical address 0xdead\n", "oops"),
        ("[  9.1] Out of memory: Killed process 600 (python3)\n", "memory"),
        ("[  9.1] EXT4-fs error (device vdb): ext4_lookup:1: bad inode\n", "disk"),
    ],
)
def test_each_kind_is_found_once(text: str, kind: str) -> None:
    events = find_events(HEALTHY + text)
    assert [event.kind for event in events] == [kind]


def test_a_healthy_boot_says_nothing() -> None:
    assert find_events(HEALTHY) == []


def test_an_event_carries_its_trace_and_ends_with_it() -> None:
    events = find_events(HUNG + OOPS + WARNING)
    assert [event.kind for event in events] == ["hung-task", "oops", "warning"]
    assert "p9_client_rpc" in events[0].text
    assert "v9fs_fid_readpage" in events[1].text
    assert "cut here" not in events[1].text


def test_only_some_kinds_mean_that_the_guest_must_go() -> None:
    assert [event.deadly for event in find_events(OOPS + WARNING + HUNG)] == [True, False, False]


def test_positions_are_bytes_in_the_log_whatever_is_in_it() -> None:
    noise = "héllo \udcff\n"
    event = find_events(noise + PANIC, offset=100)[0]
    before = (noise + PANIC.split("\n", 1)[0] + "\n").encode("utf-8", "surrogateescape")
    assert event.offset == 100 + len(before)
    assert event.guest_seconds == 70.2


def test_a_mark_parts_one_case_from_the_next(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    watch = ConsoleWatch(log)
    assert watch.mark() == 0 and watch.since(0) == []
    log.write_bytes((HEALTHY + OOPS).encode() + b"\xff\n")
    mark = watch.mark()
    assert watch.since(mark) == []
    with log.open("ab") as handle:
        handle.write(WARNING.encode())
    assert [event.kind for event in watch.since(mark)] == ["warning"]
    assert [event.kind for event in watch.since(0)] == ["oops", "warning"]


def test_a_carriage_return_at_the_lines_end_does_no_harm() -> None:
    assert find_events(OOPS.replace("\n", "\r\n"))[0].text == find_events(OOPS)[0].text
