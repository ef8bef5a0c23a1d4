"""What depends on the identity of an inode in the guest's kernel: fanotify, watches after eviction, file handles, and
attributes that a kernel computes from a file's content.
"""

from __future__ import annotations

import os
from errno import EOPNOTSUPP

from conformance.case import case
from conformance.cases.vfs.test_inotify import IN_CLOSE_WRITE, IN_CREATE, events, spelt, watch
from conformance.checks import equal, one_of
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tlopen, Trenameat, Twalk, Twrite, Txattrcreate, Txattrwalk

NOT_THERE = 75
"""Status of a script that met a kernel without what it tries."""

FANOTIFY = """
import ctypes, os, select, struct, subprocess, sys, time
directory, deny = sys.argv[1], sys.argv[2] == "deny"
libc = ctypes.CDLL(None, use_errno=True)
def check(found):
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return found
CLOEXEC, NONBLOCK, CONTENT = 1, 2, 4
MODIFY, CLOSE_WRITE, OPEN, OPEN_PERM, ON_CHILD = 2, 8, 0x20, 0x10000, 0x08000000
libc.fanotify_mark.argtypes = (ctypes.c_int, ctypes.c_uint, ctypes.c_uint64, ctypes.c_int, ctypes.c_char_p)
held = os.open(directory, os.O_RDONLY)
try:
    queue = check(libc.fanotify_init(CLOEXEC | NONBLOCK | (CONTENT if deny else 0), os.O_RDONLY | os.O_CLOEXEC))
    wanted = OPEN_PERM if deny else OPEN | MODIFY | CLOSE_WRITE
    check(libc.fanotify_mark(queue, 1, wanted | ON_CHILD, -100, os.fsencode(directory)))
except OSError as error:
    sys.exit(75 if error.errno in (22, 38) else str(error))
script = "echo more >>" + directory + "/fred" if not deny else "cat " + directory + "/fred"
started = subprocess.Popen(["sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
ended = os.pidfd_open(started.pid)
watched = select.poll()
watched.register(queue, select.POLLIN)
watched.register(ended, select.POLLIN)
seen, over = set(), False
while not over:
    ready = watched.poll(60_000)
    over = not ready or any(fd == ended for fd, _ in ready)
    while True:
        try:
            data = os.read(queue, 4096)
        except BlockingIOError:
            break
        while data:
            size, _, _, _, mask, fd, pid = struct.unpack_from("=IBBHQii", data)
            data = data[size:]
            name = os.path.basename(os.readlink("/proc/self/fd/%d" % fd))
            names = {OPEN: "open", MODIFY: "modify", CLOSE_WRITE: "close-write", OPEN_PERM: "may-open"}
            seen |= {name + ":" + text for bit, text in names.items() if mask & bit}
            if mask & OPEN_PERM:
                os.write(queue, struct.pack("=iI", fd, 2))
            os.close(fd)
if started.poll() is None:
    started.kill()
print(*sorted(seen), "refused" if started.wait() else "done")
"""
"""Watch a directory while another program opens a file in it, and answer for each opening where asked. The queue is
never read for longer than there is something in it, and the wait ends with the program."""

HANDLE = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
root = sys.argv[1]
handle = ctypes.create_string_buffer(struct.pack("Ii", 128, 0), 136)
mount = ctypes.c_int()
if libc.name_to_handle_at(-100, os.fsencode(root + "/fred"), handle, ctypes.byref(mount), 0) < 0:
    sys.exit("name_to_handle_at %d" % ctypes.get_errno())
os.rename(root + "/fred", root + "/barney")
at = os.open(root, os.O_RDONLY)
opened = libc.open_by_handle_at(at, handle, os.O_RDONLY)
if opened < 0:
    sys.exit("open_by_handle_at %d" % ctypes.get_errno())
print(os.read(opened, 100).decode())
"""


def _ran(share: Share, script: str, *words: str) -> str:
    done = share.inside.run(["python3", "-c", script, *words], 100)
    if done["status"] == NOT_THERE:
        raise Undrivable("the guest's kernel does not have it")
    equal(f"status of the script ({done['stderr'].decode(errors='replace')[-200:]})", done["status"], 0)
    return str(done["stdout"].decode(errors="replace"))


@case("IDENTITY-001", covers=[Tlopen, Twrite], severity="linux", needs=["guest-root"], cached_too=True)
def test_fanotify_reports_what_another_program_does(share: Share) -> None:
    """A directory that fanotify watches reports, with an open descriptor of the file, that another program opens,
    changes and closes it.
    Source: fanotify(7): FAN_OPEN, FAN_MODIFY, FAN_CLOSE_WRITE with FAN_EVENT_ON_CHILD."""
    share.inside.mkdir("d", 0o755)
    share.inside.create("d/fred", b"content\n", 0o644)
    with share.without_comparison():
        said = _ran(share, FANOTIFY, f"{share.inside.root}/d", "watch")
    wanted = ["fred:close-write", "fred:modify", "fred:open", "done"]
    equal("events of fanotify, and what became of the program", said.split(), wanted)
    equal("content of 'd/fred'", share.inside.soon.slurp("d/fred"), b"content\nmore\n", code="content")


@case("IDENTITY-002", covers=[Tlopen], severity="linux", needs=["guest-root"], cached_too=True)
def test_fanotify_refuses_an_opening(share: Share) -> None:
    """A fanotify listener that is asked for permission denies the opening of a file, and the other program's open
    fails.
    Source: fanotify(7): FAN_OPEN_PERM, FAN_DENY, which virus scanners use."""
    share.inside.mkdir("d", 0o755)
    share.inside.create("d/fred", b"content\n", 0o644)
    with share.without_comparison():
        said = _ran(share, FANOTIFY, f"{share.inside.root}/d", "deny")
    equal("events of fanotify, and what became of the program", said.split(), ["fred:may-open", "refused"])
    equal("content of 'd/fred'", share.inside.soon.slurp("d/fred"), b"content\n", code="content")


@case("IDENTITY-003", covers=[Tlcreate, Twalk], severity="linux", needs=["guest-root", "remount"], cached_too=True)
def test_a_watch_outlives_what_the_kernel_evicts(share: Share) -> None:
    """A watch on an open directory still reports what happens in it after the guest's kernel has evicted all names and
    inodes that it can.
    Source: inotify(7): a watch ends by inotify_rm_watch, deletion or unmount; Documentation/admin-guide/sysctl/vm.rst,
    drop_caches."""
    share.inside.mkdir("d", 0o755)
    share.inside.create("d/fred", b"content", 0o644)
    fd, _ = watch(share, "d", IN_CREATE | IN_CLOSE_WRITE)
    with share.without_comparison():
        share.inside.run(["sh", "-c", "sync; echo 3 >/proc/sys/vm/drop_caches"])
        share.inside.create("d/new", b"", 0o644)
        writer = share.inside.open("d/fred", os.O_WRONLY)
        share.inside.close(writer)
        seen = [one for one in spelt(events(share, fd)) if one != "IN_CLOSE_WRITE new"]
    equal("events of the watched directory, after eviction", seen, ["IN_CREATE new", "IN_CLOSE_WRITE fred"])


@case("IDENTITY-004", covers=[Twalk], needs=["guest-root"], cached_too=True)
def test_a_handle_of_a_file_opens_that_file(share: Share) -> None:
    """A file handle opens the same file after a rename, or the file system has no handles.
    Source: open_by_handle_at(2): EOPNOTSUPP, "the filesystem does not support decoding of a pathname to a file handle";
    fs/9p has no export_operations, so the kernel's NFS server refuses the share as well."""
    share.inside.create("fred", b"content", 0o644)
    with share.without_comparison():
        done = share.inside.run(["python3", "-c", HANDLE, share.inside.root], 100)
    if done["status"]:
        said = done["stderr"].decode(errors="replace").split()
        one_of("what name_to_handle_at(2) says of 'fred'", " ".join(said), {f"name_to_handle_at {EOPNOTSUPP}"})
        equal("content of 'fred'", share.inside.soon.slurp("fred"), b"content", code="content")
        return
    equal("what the handle opens", done["stdout"], b"content\n", code="content")
    equal("content of 'barney'", share.inside.soon.slurp("barney"), b"content", code="content")


IMA = b"\x04\x04" + bytes(range(32))
"""As IMA writes it: IMA_XATTR_DIGEST_NG, SHA-256, the digest. It holds bytes of every kind, zero among them."""


@case(
    "IDENTITY-005",
    covers=[Txattrcreate, Txattrwalk, Trenameat],
    needs=["guest-root", "host-root", "xattr-security"],
    cached_too=True,
)
def test_a_measured_file_keeps_its_digest(share: Share) -> None:
    """The attribute in which a kernel keeps the digest of a file's content stays with the file, byte for byte, through
    rename, link and chmod; a copy made with attributes has it, too.
    Source: Documentation/ABI/testing/ima_policy, security.ima; xattr(7), security extended attributes."""
    share.inside.create("fred", b"content", 0o644)
    share.inside.setxattr("fred", "security.ima", IMA)
    share.inside.rename("fred", "barney")
    share.inside.link("barney", "wilma")
    share.inside.chmod("wilma", 0o600)
    for name in ("barney", "wilma"):
        value = share.inside.getxattr(name, "security.ima")
        equal(f"security.ima of '{name}' inside", value, IMA, code="xattr")
        equal(f"security.ima of '{name}' outside", share.outside.getxattr(name, "security.ima"), IMA, code="xattr")
    names = share.inside.listxattr("wilma")
    equal("security attributes of 'wilma'", [one for one in names if one.startswith("security.")], ["security.ima"])
