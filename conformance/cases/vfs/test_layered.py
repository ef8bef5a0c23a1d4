"""The share below other file systems, and as a root: the upper layer of an overlay, a file behind FUSE, pivot_root,
mounts that propagate from one namespace into another."""

from __future__ import annotations

import stat
from errno import EINVAL

from conformance.case import case
from conformance.cases.vfs.test_stacked import ran
from conformance.checks import equal
from conformance.errors import Undrivable
from conformance.vfs.share import Share
from protocol.messages import Tlcreate, Tlopen, Tread, Twalk, Twrite

NOT_THERE = 75
"""Status of a script that met a kernel without what it tries."""

OVERLAY = r"""
import ctypes, os, shutil, sys
root = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
def mount(*words):
    if libc.mount(*(word.encode() for word in words[:3]), 0, words[3].encode()) < 0:
        return ctypes.get_errno()
    return 0
lower, merged = root + "/lower", root + "/merged"
if mount("tmpfs", lower, "tmpfs", ""):
    sys.exit("no tmpfs")
for name in ("changed", "removed", "moved", "d/inner", "e/inner"):
    os.makedirs(os.path.dirname(lower + "/" + name), exist_ok=True)
    with open(lower + "/" + name, "w") as file:
        file.write("lower\n")
layers = "lowerdir=%s,upperdir=%s/upper,workdir=%s/work" % (lower, root, root)
failed = mount("overlay", merged, "overlay", layers)
if failed:
    print("refused", failed)
    sys.exit(75 if failed == 19 else 0)
def attempt(name, call, *words):
    try:
        call(*words)
    except OSError as error:
        print("failed", name, error.errno)
def append(name):
    with open(merged + "/" + name, "a") as file:
        file.write("more\n")
attempt("write", append, "changed")
attempt("create", append, "new")
attempt("unlink", os.unlink, merged + "/removed")
attempt("rename", os.rename, merged + "/moved", merged + "/there")
attempt("remove-tree", shutil.rmtree, merged + "/d")
attempt("mkdir", os.mkdir, merged + "/d")
attempt("remove-inner", os.unlink, merged + "/e/inner")
def shown():
    for place, _, names in sorted(os.walk(merged)):
        for name in sorted(names):
            with open(place + "/" + name) as file:
                yield "%s=%s" % (os.path.relpath(place + "/" + name, merged), file.read().split())
        if not names:
            yield os.path.relpath(place, merged) + "/"
before = list(shown())
if libc.umount2(merged.encode(), 0) < 0:
    sys.exit("umount %d" % ctypes.get_errno())
failed = mount("overlay", merged, "overlay", layers)
if failed:
    print("failed second-mount", failed)
elif list(shown()) != before:
    print("after the second mount:", *shown())
print(*before, sep="\n")
libc.umount2(merged.encode(), 0)
"""
"""Mount an overlay whose upper layer lies on the share, change it, mount it again; what failed, and what it shows."""

OVERLAID = ("write", "create", "unlink", "rename", "remove-tree", "mkdir", "remove-inner", "second-mount")

FUSE = """
import ctypes, os, signal, struct, sys
backing, view = os.open(sys.argv[1] + "/fred", os.O_RDWR), sys.argv[1] + "/view"
libc = ctypes.CDLL(None, use_errno=True)
try:
    fuse = os.open("/dev/fuse", os.O_RDWR)
except OSError:
    os.system("modprobe fuse 2>/dev/null")
    try:
        fuse = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        sys.exit(75)
words = b"fd=%d,rootmode=100644,user_id=0,group_id=0" % fuse
if libc.mount(b"assay9", os.fsencode(view), b"fuse", 0, words) < 0:
    sys.exit(75 if ctypes.get_errno() == 19 else "mount %d" % ctypes.get_errno())
def attributes():
    size = os.fstat(backing).st_size
    return struct.pack("QII6Q10I", 0, 0, 0, 1, size, size + 511 >> 9, 0, 0, 0, 0, 0, 0, 0o100644, 1, 0, 0, 0, 4096, 0)
def answer(kind, body):
    if kind == 26:
        return struct.pack("4I2H2I2H8I", 7, 31, 65536, 0, 0, 0, 65536, 1, 0, 0, *[0] * 8)
    if kind == 4 and struct.unpack_from("I", body)[0] & 8:
        os.ftruncate(backing, struct.unpack_from("Q", body, 16)[0])
    if kind in (3, 4):
        return attributes()
    if kind == 14:
        return struct.pack("QII", 1, 1, 0)
    if kind == 15:
        offset, size = struct.unpack_from("QI", body, 8)
        return os.pread(backing, size, offset)
    if kind == 16:
        offset, size = struct.unpack_from("QI", body, 8)
        return struct.pack("II", os.pwrite(backing, body[40 : 40 + size], offset), 0)
    if kind == 20:
        os.fsync(backing)
    return b"" if kind in (18, 20, 25, 38) else None
server = os.fork()
if not server:
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)
    while True:
        try:
            data = os.read(fuse, 1 << 18)
        except FileNotFoundError:
            continue
        except OSError as error:
            os._exit(error.errno != 19)
        size, kind, unique = struct.unpack_from("IIQ", data)
        if kind in (2, 36, 42):
            continue
        reply = answer(kind, data[40:])
        body = reply or b""
        try:
            os.write(fuse, struct.pack("IiQ", 16 + len(body), 0 if reply is not None else -38, unique) + body)
        except FileNotFoundError:
            pass
os.close(fuse)
with open(view, "r+b") as file:
    print(file.read(7).decode())
    file.seek(3)
    file.write(b"x" * 100_000)
    file.flush()
    os.fsync(file.fileno())
with open(view, "rb") as file:
    print(len(file.read()))
libc.umount2(os.fsencode(view), 0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(server, 0)[1]))
"""
"""A file system in user space of a single file, which is that of the share; read and written through it.

ENOENT from /dev/fuse: nobody waits for the reply any more, as for that to RELEASE after umount. Source: fs/fuse/dev.c
fuse_dev_do_write; libfuse's fuse_lowlevel.c takes it so, too.
"""


def _ran(share: Share, script: str) -> list[str]:
    """The output of a script that mounts in its own namespace, so that no mount stays."""
    with share.without_comparison():
        done = share.inside.run(["unshare", "--mount", "python3", "-c", script, share.inside.root], 100)
    if done["status"] == NOT_THERE:
        raise Undrivable("the guest's kernel has no such file system")
    equal(f"status of the script ({done['stderr'].decode(errors='replace')[-200:]})", done["status"], 0)
    return list(done["stdout"].decode(errors="replace").splitlines())


def _whiteouts_are_kept(share: Share) -> None:
    """Undrivable where the exported file system has no whiteouts: an overlay keeps them for itself."""
    host = share.outside.quietly
    try:
        host.mknod("probe", stat.S_IFCHR, 0)
    except OSError as error:
        raise Undrivable(f"the exported file system refuses a whiteout: {error.strerror}") from None
    host.unlink("probe")


@case("LAYERED-001", covers=[Twalk], severity="linux", needs=["guest-root", "host-root"], cached_too=True)
def test_a_layer_on_top_of_an_overlay(share: Share) -> None:
    """The share is the upper layer of an overlay: what is written, created, removed and renamed there lasts, also after
    the next mount, with whiteouts on the share; or the overlay refuses the share when it is mounted.
    Source: Linux Documentation/filesystems/overlayfs.rst: the upper file system "must support the creation of
    trusted.* and/or user.* extended attributes, and must provide valid d_type in readdir responses, so NFS is not
    suitable"; fs/overlayfs/super.c ovl_mount_dir refuses one that revalidates names (EINVAL)."""
    if not share.alone:
        _whiteouts_are_kept(share)
    for name in ("lower", "upper", "work", "merged"):
        share.inside.mkdir(name, 0o755)
    said = _ran(share, OVERLAY)
    if said == [f"refused {EINVAL}"]:
        equal("names in the layer of an overlay that was refused", share.inside.soon.listdir("upper"), [], code="names")
        return
    failed = dict(line.split()[1:] for line in said if line.startswith("failed "))
    for call in OVERLAID:
        equal(f"errno of {call} in an overlay", int(failed.get(call, 0)), 0, code="errno")
    equal("what the overlay shows after the second mount", [one for one in said if one.startswith("after")], [])
    if not failed:
        wanted = ["d/", "changed=['lower', 'more']", "new=['more']", "there=['lower']", "e/"]
        equal("what the overlay shows", sorted(said), sorted(wanted))


@case("LAYERED-002", covers=[Tlopen, Twrite], needs=["guest-root"], seconds=120, cached_too=True)
def test_a_file_system_in_user_space_over_a_file(share: Share) -> None:
    """A file system in user space (FUSE) serves one file of the share under another name of the share: it shows the
    file's bytes, and writes to it reach the file.
    Source: fuse(4); user-space file systems on images and archives that lie on shares."""
    share.inside.create("fred", b"content", 0o644)
    share.inside.create("view", b"", 0o644)
    said = _ran(share, FUSE)
    equal("bytes and size by the file system in user space", said, ["content", "100003"])
    equal("content of 'fred'", share.inside.soon.slurp("fred"), b"con" + b"x" * 100_000, code="content")
    equal("content of 'view' without the mount", share.inside.soon.slurp("view"), b"", code="content")


@case("LAYERED-003", covers=[Twalk, Tlopen, Tread], needs=["guest-root"], cached_too=True)
def test_a_directory_becomes_the_root(share: Share) -> None:
    """A directory of the share that is a mount point becomes the root by pivot_root(2), and the old root can be
    unmounted.
    Source: pivot_root(2): "changes the root mount in the mount namespace of the calling process"; container managers
    start this way."""
    busybox = share.inside.which("busybox")
    if busybox is None:
        raise Undrivable("the guest has no busybox")
    root = f"{share.inside.root}/root"
    for name in ("root", "root/bin", "root/old"):
        share.inside.mkdir(name, 0o755)
    share.inside.create("root/file", b"in the root\n", 0o644)
    ran(share, "cp", busybox, f"{root}/bin/busybox")
    script = f"mount --bind {root} {root} && cd {root} && {busybox} pivot_root . old && exec /bin/busybox chroot . "
    script += "/bin/busybox sh -c '/bin/busybox umount -l /old && /bin/busybox cat /file && echo /* /old/*'"
    with share.without_comparison():
        said = ran(share, "unshare", "--mount", "sh", "-c", script)
    equal("what a program sees of its root", said.splitlines(), ["in the root", "/bin /file /old /old/*"])
    equal("names of the directory", sorted(share.inside.listdir("root")), ["bin", "file", "old"], code="names")


@case("LAYERED-004", covers=[Twalk, Tlcreate], needs=["guest-root"])
def test_mounts_follow_into_a_unit(share: Share) -> None:
    """In a mount namespace as a service manager makes it for a unit (slave mounts), one directory of the share is bound
    read-only, another is hidden, and the unit's own mounts are not seen outside; files created outside meanwhile are
    seen in the unit.
    Source: mount_namespaces(7), slave mounts; systemd.exec(5): BindReadOnlyPaths=, InaccessiblePaths=,
    PrivateMounts=."""
    root = share.inside.root
    for name in ("data", "bound", "secret"):
        share.inside.mkdir(name, 0o755)
    share.inside.create("secret/key", b"key", 0o600)
    script = f"""
cd {root} && mount --bind data bound && mount -o remount,bind,ro,nosuid,noexec bound || exit 1
mount -t tmpfs -o size=64k,mode=0,ro tmpfs secret || exit 1
nsenter --mount=/proc/$PPID/ns/mnt sh -c 'echo outside >{root}/data/new' || exit 1
cat bound/new; touch bound/no 2>/dev/null || echo read-only; ls secret; echo mine >data/unit
"""
    outer = f"unshare --mount --propagation slave sh -c {_quoted(script)}; ls {root}/secret {root}/bound"
    with share.without_comparison():
        said = ran(share, "sh", "-c", outer)
    wanted = ["outside", "read-only", f"{root}/bound:", "", f"{root}/secret:", "key"]
    equal("what the unit sees, then what is outside", said.splitlines(), wanted)
    equal("names of 'data'", sorted(share.inside.listdir("data")), ["new", "unit"], code="names")


def _quoted(script: str) -> str:
    return "'" + script.replace("'", "'\\''") + "'"
