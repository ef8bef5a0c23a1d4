"""QEMU's security models: in each, what the guest sees is right and the host stores what the model defines.

passthrough: owner, mode and type of the guest's files are those of the host's files. none: the same, but the server
ignores what it may not set. mapped-xattr keeps them in user.virtfs.* attributes, mapped-file in .virtfs_metadata; the
host has plain 0600 files that belong to the server's user.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from errno import EACCES, EDQUOT, EINVAL, ENODATA, ENOENT, ENOSPC, EOPNOTSUPP, EPERM
from functools import partial

import pytest

from conformance.case import UNCACHED, case
from conformance.cases.property.mounting import must_run, must_succeed, succeeded, tmpfs
from conformance.cases.property.test_full import quota
from conformance.cases.vfs.outcomes import plain
from conformance.checks import Errno, equal, fields, holds, one_of
from conformance.errors import Undrivable
from conformance.vfs.deployment import Device
from conformance.vfs.share import Share
from conformance.vfs.vantage import Vantage
from guests.host.waiting import happens
from guests.machines.spec import SecurityModel
from protocol.messages import Tlcreate, Tmkdir, Tmknod, Trenameat, Tsetattr, Tsymlink, Tunlinkat

NEEDS = ["another-device"]
MAPPED: tuple[SecurityModel, ...] = ("mapped-xattr", "mapped-file")
ALL: tuple[SecurityModel, ...] = ("passthrough", *MAPPED, "none")
METADATA = ".virtfs_metadata"
SECRET = 0o600
NO_ROOM = (ENOSPC, EOPNOTSUPP, EDQUOT)
QUOTA = 16 << 20
RECORDING = "setxattr,lsetxattr,fsetxattr"
"""System calls by which a server may record an attribute."""
MOST_PARTS = 8
"""More than a record has: owner, group, mode and device number."""
_ATTACHED = 20.0
"""Seconds that strace has to attach to the threads of a server; it takes a fraction of one."""


def there(share: Share, model: SecurityModel) -> Share:
    """A share with that model; on control the control file system itself, which has no models."""
    if share.on_control:
        return share
    if model == "passthrough":
        share.need("host-root", "passthrough changes owners on the host")
    return share.another(Device(model))


def owners_kept(share: Share, model: SecurityModel) -> bool:
    """Whether owners that the guest sets are kept: the model none drops them without privilege."""
    return model != "none" or "host-root" in share.mounted.features


def mapped(outside: Vantage, path: str, model: SecurityModel) -> dict[str, int]:
    """What the host has recorded for that file: uid, gid, mode and rdev, as far as they are set."""
    if model == "mapped-xattr":
        names = outside.listxattr(path, follow_symlinks=False)
        read = {n: outside.getxattr(path, n, follow_symlinks=False) for n in names if n.startswith("user.virtfs.")}
        return {n.rpartition(".")[2]: int.from_bytes(value, "little") for n, value in read.items()}
    directory, name = os.path.split(path)
    try:
        text = outside.slurp(os.path.join(directory, METADATA, name)).decode()
    except OSError as e:
        if e.errno != ENOENT:
            raise
        return {}
    pairs = (line.partition("=")[::2] for line in text.splitlines())
    return {name.rpartition(".")[2]: int(value) for name, value in pairs}


def shows(vantage: Vantage, path: str, **expected: object) -> None:
    """lstat(2) from there shows these fields of `path`: mode with type, uid, gid, ..."""
    fields(f"{path!r} {vantage.name}", vantage.lstat(path), **expected)


@case("MODEL-001", needs=NEEDS, covers=[Tlcreate, Tmkdir, Tsymlink, Tsetattr], about="agreement")
@pytest.mark.parametrize("model", ALL)
def test_guest_sees_what_it_made(share: Share, model: SecurityModel) -> None:
    """Files, directories and links that the guest made have the type, mode and owner that it gave them, and still have
    them after the guest has dropped its caches.
    Source: QEMU's manual, -fsdev security_model; POSIX chmod, chown."""
    s = there(share, model)
    s.inside.create("file", b"content", 0o640)
    s.inside.mkdir("dir", 0o750)
    s.inside.symlink("file", "link")
    s.inside.chmod("file", 0o4755)
    s.inside.chmod("dir", 0o2711)
    if owners_kept(s, model):
        s.inside.chown("file", 1001, 1002)
        s.inside.chown("dir", 1003, 1004)
        s.inside.lchown("link", 1005, 1006)
        s.inside.chmod("file", 0o4755)  # chown clears the bits
        owners = {"file": (1001, 1002), "dir": (1003, 1004), "link": (1005, 1006)}
        for name, owner in owners.items():
            shows(s.inside, name, uid=owner[0], gid=owner[1])
    shows(s.inside, "file", mode=stat.S_IFREG | 0o4755)
    shows(s.inside, "dir", mode=stat.S_IFDIR | 0o2711)
    shows(s.inside, "link", type=stat.S_IFLNK)
    equal("text of the symbolic link 'link' inside", s.inside.readlink("link"), "file", code="field:target")
    equal("content of 'link' inside", s.inside.slurp("link"), b"content", code="content")
    equal("names in the case's directory inside", s.inside.listdir("."), ["dir", "file", "link"], code="names")
    s.same(s.directory("."))


@case("MODEL-002", needs=NEEDS, control=False, covers=[Tlcreate, Tsetattr], caches=UNCACHED)
@pytest.mark.parametrize("model", MAPPED)
def test_host_has_plain_files(share: Share, model: SecurityModel) -> None:
    """In the mapped models the host has a plain 0600 file of the server's own user, without set-id bits, whatever the
    guest sets, and records owner and mode with the type.
    Source: QEMU's manual, -fsdev security_model=mapped; known defect: incus#1547, set-user-ID files on the host."""
    s = there(share, model)
    with s.without_comparison():
        s.inside.create("fred", b"content", 0o640)
        s.inside.chown("fred", 1001, 1002)
        s.inside.chmod("fred", 0o6755)
    seen = s.outside.lstat("fred")
    fields("'fred' outside", seen, mode=stat.S_IFREG | SECRET, uid=s.outside.lstat(".")["st_uid"])
    own = seen["st_gid"] != 1002
    holds("the host's file does not have the group that the guest gave it", own, seen=seen["st_gid"], code="field:gid")
    wanted = {"uid": 1001, "gid": 1002, "mode": stat.S_IFREG | 0o6755}
    equal("what the host has recorded for 'fred'", mapped(s.outside, "fred", model), wanted, code="xattr")
    equal("content of 'fred' outside", s.outside.slurp("fred"), b"content", code="content")


@case("MODEL-003", needs=NEEDS, control=False, covers=[Tmkdir, Tsetattr], caches=UNCACHED)
@pytest.mark.parametrize("model", MAPPED)
def test_directories_stay_usable(share: Share, model: SecurityModel) -> None:
    """In the mapped models a directory has mode 0700 on the host, and its recorded mode, even 0, does not keep the
    server out.
    Source: QEMU's manual, -fsdev dmode (default 0700); known defect: android-vshell#7, chmod of a directory."""
    s = there(share, model)
    with s.without_comparison():
        s.inside.mkdir("d", 0o755)
        for wanted in (0o700, 0o2777, 0):
            s.inside.chmod("d", wanted)
            shows(s.inside, "d", mode=stat.S_IFDIR | wanted)
        s.inside.create("d/fred", b"content")
        equal("content of 'd/fred' inside", s.inside.slurp("d/fred"), b"content", code="content")
    shows(s.outside, "d", mode=stat.S_IFDIR | 0o700)
    equal(
        "mode that the host has recorded for 'd'", mapped(s.outside, "d", model).get("mode"), stat.S_IFDIR, code="xattr"
    )


@case("MODEL-004", needs=NEEDS, control=False, covers=[Tsymlink], caches=UNCACHED)
@pytest.mark.parametrize("model", MAPPED)
def test_links_are_plain_files(share: Share, model: SecurityModel) -> None:
    """In the mapped models a symbolic link is a plain file on the host that holds the target, so that no process of
    the host follows it; inside it is a link with its target's length.
    Source: QEMU's manual, -fsdev security_model=mapped; hw/9pfs/9p-local.c local_symlink; known defect: GitLab
    qemu#173, unreadable links."""
    s = there(share, model)
    for name, target in (("absolute", "/etc/shadow"), ("relative", "../" * 20 + "etc/shadow"), ("long", "x" * 4000)):
        with s.without_comparison():
            s.inside.symlink(target, name)
        equal(f"text of the symbolic link {name!r} inside", s.inside.readlink(name), target, code="field:target")
        fields(f"{name!r} inside", s.inside.lstat(name), size=len(target))
        fields(f"{name!r} outside", s.outside.lstat(name), type=stat.S_IFREG)
        equal(f"content of {name!r} outside", s.outside.slurp(name).decode(), target, code="content")


@case("MODEL-005", needs=NEEDS, control=False, covers=[Tmknod], caches=UNCACHED)
@pytest.mark.parametrize("model", MAPPED)
@pytest.mark.parametrize(
    "kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK], ids=["char", "block", "fifo", "socket"]
)
def test_special_files_are_plain_files(share: Share, model: SecurityModel, kind: int) -> None:
    """In the mapped models the guest makes fifos, sockets and device nodes with their mode and number, and the host
    has plain empty files.
    Source: QEMU's manual, -fsdev security_model=mapped; hw/9pfs/9p-local.c local_mknod."""
    s = there(share, model)
    device = os.makedev(1, 5) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    with s.without_comparison():
        s.inside.mknod("node", kind | 0o640, device)
    inside, outside = s.inside.lstat("node"), s.outside.lstat("node")
    fields("'node' inside", inside, mode=kind | 0o640, rdev=device)
    fields("'node' outside", outside, mode=stat.S_IFREG | SECRET, rdev=0, size=0)
    if kind == stat.S_IFCHR:
        zeros = s.inside.read(s.inside.open("node", os.O_RDONLY), 3)
        equal("bytes read from the node, which is the guest's zero device,", zeros, bytes(3), code="content")
    with s.without_comparison():
        s.inside.unlink("node")
    s.gone("node")


@case(
    "MODEL-006",
    needs=[*NEEDS, "host-root"],
    control=False,
    covers=[Tlcreate, Tsetattr],
    caches=UNCACHED,
    about="agreement",
)
@pytest.mark.parametrize("model", ["passthrough", "none"])
def test_host_has_the_guests_owners(share: Share, model: SecurityModel) -> None:
    """In passthrough, and in none with a privileged server, owner, group and all twelve mode bits are those of the
    host's file, and nothing else is recorded.
    Source: QEMU's manual, -fsdev security_model=passthrough, none."""
    s = there(share, model)
    s.inside.create("fred", b"content", 0o640)
    s.inside.chown("fred", 1001, 1002)
    s.inside.chmod("fred", 0o6755)
    shows(s.outside, "fred", mode=stat.S_IFREG | 0o6755, uid=1001, gid=1002)
    equal("names of the attributes of 'fred' outside", s.outside.listxattr("fred"), [], code="xattr")
    bob = s.inside.spawn("bob", uid=1001, gid=1001)
    bob.create("of bob", b"", 0o600)
    shows(s.outside, "of bob", mode=stat.S_IFREG | 0o600, uid=1001, gid=1001)
    equal("names in the case's directory outside", s.outside.listdir("."), ["fred", "of bob"], code="names")
    for name in (".", "fred", "of bob"):
        s.same(s.stat(name))


@case("MODEL-007", needs=NEEDS, covers=[Trenameat, Tunlinkat])
@pytest.mark.parametrize("model", ALL)
def test_attributes_go_with_the_file(share: Share, model: SecurityModel) -> None:
    """Mode and owner go along when a file is renamed, into another directory or over another file, are shared by
    its hard links, and do not reappear on a new file with a removed one's name.
    Source: POSIX rename, link, unlink; hw/9pfs/9p-local.c local_renameat, local_unlinkat."""
    s = there(share, model)
    s.inside.mkdir("d")
    s.inside.create("fred", b"content", 0o644)
    s.inside.create("d/over", b"", 0o644)
    s.inside.chmod("fred", 0o611)
    if owners_kept(s, model):
        s.inside.chown("fred", 1001, 1002)
    wanted = {n: value for n, value in plain(s.inside.lstat("fred")).items() if n in ("mode", "uid", "gid")}
    s.inside.link("fred", "d/linked")
    s.inside.rename("fred", "renamed")
    s.inside.rename("renamed", "d/over")
    shows(s.inside, "d/over", **wanted)
    shows(s.inside, "d/linked", **wanted)
    s.inside.rename("d", "e")
    shows(s.inside, "e/over", **wanted)
    s.inside.unlink("e/over")
    s.inside.create("e/over", b"", 0o600)
    fields("the new 'e/over' inside", s.inside.lstat("e/over"), mode=stat.S_IFREG | 0o600)
    shows(s.inside, "e/linked", **wanted)
    for name in ("e/over", "e/linked"):
        s.inside.unlink(name)
    s.inside.rmdir("e")
    equal("names left in the directory", s.inside.listdir("."), [], code="names")


@case("MODEL-008", needs=[*NEEDS, "host-root"], control=False, caches=UNCACHED, severity="linux")
@pytest.mark.parametrize("model", ALL)
def test_files_of_the_host(share: Share, model: SecurityModel) -> None:
    """A file that the host made, without records, shows the host's type, mode and owner inside; once the guest changes
    its mode, it shows the new mode.
    Source: hw/9pfs/9p-local.c local_lstat: recorded values replace the host's where there are any."""
    s = there(share, model)
    s.outside.create("fred", b"content")
    s.outside.chown("fred", 1001, 1002)
    s.outside.chmod("fred", 0o644)
    s.outside.symlink("fred", "link")
    s.outside.mkdir("d")
    shows(s.inside, "fred", mode=stat.S_IFREG | 0o644, uid=1001, gid=1002)
    shows(s.inside, "d", type=stat.S_IFDIR)
    s.inside.chmod("fred", 0o604)
    shows(s.inside, "fred", mode=stat.S_IFREG | 0o604, uid=1001, gid=1002)


@case("MODEL-009", needs=NEEDS, control=False, caches=UNCACHED)
def test_recorded_attributes_are_hidden(share: Share) -> None:
    """In mapped-xattr the guest neither lists nor reads user.virtfs.* attributes, and it may neither set nor remove
    them: otherwise a process could forge owners and types behind its kernel's back.
    Source: hw/9pfs/9p-xattr-user.c mp_user_getxattr ENODATA, mp_user_setxattr and mp_user_removexattr EACCES."""
    s = there(share, "mapped-xattr")
    with s.without_comparison():
        s.inside.create("fred", b"content", 0o640)
        s.inside.setxattr("fred", "user.a", b"value")
    recorded = mapped(s.outside, "fred", "mapped-xattr")
    equal("names of the attributes of 'fred' inside", s.inside.listxattr("fred"), ["user.a"], code="xattr")
    equal("attributes user.* of 'fred'", s.same(s.xattrs("fred")), {"user.a": b"value"}, code="xattr")
    s.inside.refuses(ENODATA, another="linux").getxattr("fred", "user.virtfs.mode")
    s.inside.refuses(EACCES, another="varies").setxattr(
        "fred", "user.virtfs.mode", (stat.S_IFREG | 0o4777).to_bytes(4, "little")
    )
    s.inside.refuses(EACCES, another="varies").removexattr("fred", "user.virtfs.uid")
    after = mapped(s.outside, "fred", "mapped-xattr")
    equal("what the host has recorded for 'fred', compared with before", after, recorded, code="xattr")


@case("MODEL-010", needs=NEEDS, control=False, caches=UNCACHED)
def test_metadata_directory_is_out_of_reach(share: Share) -> None:
    """In mapped-file the guest does not see .virtfs_metadata in any directory and can neither open, make, rename,
    link nor remove anything of that name.
    Source: hw/9pfs/9p-local.c local_is_mapped_file_metadata: EINVAL; a look-up may give ENOENT; known defect:
    CVE-2017-7493, a guest forges owners through the metadata's names."""
    s = there(share, "mapped-file")
    refuses = s.inside.refuses(EINVAL, ENOENT, because="the name does not exist for the guest", another="varies")
    with s.without_comparison():
        s.inside.mkdir("d")
        s.inside.create("fred", b"content", 0o640)
        s.inside.create("d/fred", b"content", 0o640)
        recorded = s.outside.slurp(f"{METADATA}/fred")
        for directory in (".", "d"):
            names = [entry[0] for entry in s.inside.readdir_all(directory)]
            holds(
                f"the guest does not see {METADATA} in {directory!r}", METADATA not in names, seen=names, code="names"
            )
            name = f"{directory}/{METADATA}"
            refuses.open(name, os.O_RDONLY)
            refuses.lstat(f"{name}/fred")
            refuses.create(name)
            refuses.mkdir(name)
            refuses.symlink("fred", name)
            refuses.rename("fred", name)
            refuses.link("fred", name)
            refuses.rename(name, "stolen")
            refuses.rmdir(name)
    after = s.outside.slurp(f"{METADATA}/fred")
    equal("what the host has recorded for 'fred', compared with before", after, recorded, code="changed")
    equal("names in the case's directory", s.same(s.directory(".")), ["d", "fred"], code="names")


@case("MODEL-011", needs=[*NEEDS, "guest-root"], caches=UNCACHED)
@pytest.mark.parametrize("model", ALL)
def test_permission_is_judged_by_what_the_guest_sees(share: Share, model: SecurityModel) -> None:
    """A user of the guest may do what the owner and mode that the guest sees allow: read their own 0600 file, but not
    read another's or change its mode or owner.
    Source: path_resolution(7), chmod(2), chown(2) EPERM; 9P2000.L leaves permission to the client (access=client)."""
    s = there(share, model)
    if not owners_kept(s, model):
        share.need("host-root", "model none without privilege keeps no owners")
    bob, carol = s.inside.spawn("bob", uid=1001), s.inside.spawn("carol", uid=1002)
    bob.create("of bob", b"secret", 0o600)
    equal("content of 'of bob' read by its owner", bob.slurp("of bob"), b"secret", code="content")
    carol.refuses(EACCES).open("of bob", os.O_RDONLY)
    carol.refuses(EPERM).chmod("of bob", 0o666)
    carol.refuses(EPERM).chown("of bob", 1002, 1002)
    bob.chmod("of bob", 0o644)
    equal("content of 'of bob' read by another user after chmod", carol.slurp("of bob"), b"secret", code="content")


@case("MODEL-012", needs=[*NEEDS, "guest-root"], covers=[Tlcreate], caches=UNCACHED)
@pytest.mark.parametrize("model", ALL)
def test_set_id_programs(share: Share, model: SecurityModel) -> None:
    """A set-user-ID program that the guest's root put on the share runs as root for another user, in every model.
    Source: execve(2); the bits are those that the guest sees."""
    s = there(share, model)
    if not owners_kept(s, model):
        share.need("host-root", "model none without privilege keeps no owners")
    program = s.inside.which("id") or "/usr/bin/id"
    with s.without_comparison():
        done = s.inside.run(["/bin/cp", program, f"{s.inside.root}/id"])
        must_succeed("cp onto the share", done)
        s.inside.chown("id", 0, 0)
        s.inside.chmod("id", 0o4755)
    ran = s.inside.spawn("bob", uid=1001).run(["./id", "-u"])
    succeeded("./id -u", ran)
    equal("output of id -u, set-user-ID of root,", ran["stdout"], b"0\n", code="content")


CHANGES: dict[str, Callable[[Vantage, str], object]] = {
    "create": lambda inside, at: inside.create(f"{at}/new", b"", 0o640),
    "mkdir": lambda inside, at: inside.mkdir(f"{at}/new", 0o2750),
    "symlink": lambda inside, at: inside.symlink("target", f"{at}/new"),
    "fifo": lambda inside, at: inside.mknod(f"{at}/new", stat.S_IFIFO | 0o640, 0),
    "chmod": lambda inside, at: inside.chmod(f"{at}/fred", 0o4711),
    "chown": lambda inside, at: inside.chown(f"{at}/fred", 1001, 1002),
    "link": lambda inside, at: inside.link(f"{at}/barney", f"{at}/new"),
    "rename": lambda inside, at: inside.rename(f"{at}/barney", f"{at}/d/new"),
}
"""What needs room on the host for a record beside, or for a part of it, in that directory."""


WORKED: dict[str, tuple[str, dict[str, int]]] = {
    "create": ("new", {"mode": stat.S_IFREG | 0o640}),
    "mkdir": ("new", {"mode": stat.S_IFDIR | 0o750}),
    "symlink": ("new", {"type": stat.S_IFLNK, "size": len("target")}),
    "fifo": ("new", {"mode": stat.S_IFIFO | 0o640}),
    "chmod": ("fred", {"mode": stat.S_IFREG | 0o4711}),
    "chown": ("fred", {"uid": 1001, "gid": 1002}),
    "link": ("new", {"mode": stat.S_IFREG | 0o611, "nlink": 2}),
    "rename": ("d/new", {"mode": stat.S_IFREG | 0o611}),
}
"""What lstat(2) inside shows, and of which file, once the call has worked."""


def filled(outside: Vantage, makes: bool) -> Iterator[Callable[[], object]]:
    """Take all room of the small file system on 't' outside; calls that give a little of it back, one after the other.

    For a call that makes a file the first one gives an inode back, so that room is missing for the record alone.
    tmpfs charges attributes of users to its inodes, 1,024 bytes for each; a recorded value takes about 60.
    Source: mm/shmem.c BOGO_INODE_SIZE; fs/xattr.c simple_xattr_space.
    """

    def taken(kind: str, length: int) -> Iterator[str]:
        for number in range(1000):
            name = f"user.{kind}{number}"
            try:
                if kind == "file":
                    outside.create(f"t/fill/{name}")
                else:
                    outside.setxattr("t/fill", name, bytes(length))
            except OSError as e:
                if e.errno not in (ENOSPC, EOPNOTSUPP):
                    raise
                return
            yield name

    files, large, small = (list(taken(kind, length)) for kind, length in (("file", 0), ("large", 64), ("small", 0)))
    inodes = [partial(outside.unlink, f"t/fill/{name}") for name in files]
    attributes = [partial(outside.removexattr, "t/fill", name) for name in (*small, *large)]
    yield from (*inodes[:makes], *attributes, *inodes[makes:])


def portrait(s: Share, model: SecurityModel, at: str) -> dict[str, object]:
    """All that a refused call must leave: names and attributes inside, names and records outside."""
    seen: dict[str, object] = {}
    for directory in (at, f"{at}/d"):
        for vantage in (s.inside, s.outside):
            names = sorted(name for name in vantage.listdir(directory) if name != METADATA)
            seen[f"names in {directory!r} {vantage.name}"] = names
        if model == "mapped-file" and METADATA in s.outside.listdir(directory):
            seen[f"records in {directory!r}"] = sorted(s.outside.listdir(f"{directory}/{METADATA}"))
    for name in (f"{at}/fred", f"{at}/barney"):
        status = s.inside.lstat(name)
        seen[f"{name!r} inside"] = {field: status[f"st_{field}"] for field in ("mode", "uid", "gid", "nlink")}
        seen[f"record of {name!r}"] = mapped(s.outside, name, model)
    return {what: value for what, value in seen.items() if value}


RECORDED = [
    (model, change)
    for model in MAPPED
    for change in CHANGES
    if model == "mapped-file" or change not in ("link", "rename")
]
"""Each model with the calls for which it writes a record."""


@case(
    "MODEL-013",
    needs=[*NEEDS, "mount-namespace"],
    control=False,
    caches=UNCACHED,
)
@pytest.mark.parametrize(
    ("model", "change"),
    RECORDED,
)
def test_all_or_nothing(share: Share, model: SecurityModel, change: str) -> None:
    """In the mapped models a call for whose record, or for a part of it, the host has no room fails with ENOSPC and
    changes nothing, however little is missing; once there is room it works.
    Source: POSIX open, mkdir, symlink, mknod, link, rename, chmod, chown: what fails makes and changes nothing;
    hw/9pfs/9p-local.c, which records after it has made, and removes what it made."""
    s = there(share, model)
    with tmpfs(s, "t", "size=4m,nr_inodes=20"), s.without_comparison():
        for name in ("t/d", "t/fill"):
            s.outside.mkdir(name)
        s.outside.create("t/fred", b"of the host")
        s.inside.create("t/barney", b"content", 0o611)
        refused_until_it_works(s, model, change, "t", filled(s.outside, change not in ("chmod", "chown")))


def refused_until_it_works(
    s: Share, model: SecurityModel, change: str, at: str, more_room: Iterable[Callable[[], object]]
) -> None:
    """The call is refused and changes nothing, until one of the calls that make room has made enough."""
    before = portrait(s, model, at)
    refused = 0
    for make_room in more_room:
        try:
            CHANGES[change](s.inside, at)
        except OSError as e:
            refused = e.errno or -1
        else:
            break
        one_of(f"errno of {change}", Errno(refused), NO_ROOM, code="errno", call=change)
        for what, value in portrait(s, model, at).items():
            equal(f"{what} after {change} was refused", value, before.get(what), code="changed")
        make_room()
    holds("the host has no room at first, and the call is refused", refused != 0, seen=refused, code="errno")
    name, wanted = WORKED[change]
    shows(s.inside, f"{at}/{name}", **wanted)


@case(
    "MODEL-014",
    needs=[*NEEDS, "mount-namespace"],
    control=False,
    caches=UNCACHED,
    seconds=120,
)
@pytest.mark.parametrize(
    ("change", "model"),
    [(change, model) for model, change in RECORDED],
)
def test_all_or_nothing_of_a_quota(share: Share, change: str, model: SecurityModel) -> None:
    """In the mapped models a call for whose record, or for a part of it, the host's quota leaves no room fails with
    EDQUOT and changes nothing, however little is missing; once the quota is larger it works.
    Source: POSIX open, mkdir, symlink, mknod, link, rename, chmod, chown: what fails makes and changes nothing;
    open(2), setxattr(2) EDQUOT."""
    s = there(share, model)
    with quota(s, "q", QUOTA), s.without_comparison():
        s.outside.mkdir("q/own/d")
        s.outside.create("q/own/fred", b"of the host")
        s.inside.create("q/own/barney", b"content", 0o611)
        refused_until_it_works(s, model, change, "q/own", larger(s.outside, "q"))


def larger(outside: Vantage, where: str) -> Iterator[Callable[[], object]]:
    """Use the quota of the directory `own` of that Btrfs file system up; calls that raise it by little, one by one.

    A change reserves space for the blocks of its tree before it is made, and keeps that until it is committed. Source:
    fs/btrfs/qgroup.c btrfs_qgroup_reserve_meta; a block is 16 KiB.
    """
    root = f"{outside.root}/{where}"
    own = must_run(outside, "btrfs", "inspect-internal", "rootid", f"{root}/own").strip()

    def limit(size: int) -> None:
        must_run(outside, "btrfs", "filesystem", "sync", root)
        must_run(outside, "btrfs", "qgroup", "limit", str(size), f"0/{own}", root)

    least = 1 << 14
    limit(least)
    for step in range(1, 200):
        yield partial(limit, least + step * (1 << 14))


@contextmanager
def refusing(s: Share, step: int) -> Iterator[None]:
    """The `step`th call of the device's process that records an attribute fails with EDQUOT, by strace(1) on this host.

    Undrivable without strace, or where it may not attach. Source: strace(1), --inject.
    """
    if (strace := s.outside.which("strace")) is None:
        raise Undrivable("a host that refuses a part of a record: strace is not installed on the host")
    found = s.outside.run(["pgrep", "-f", f"{re.escape(s.mounted.exported)}([ ,]|$)"])
    pids = found["stdout"].decode().split()
    if len(pids) != 1:
        raise Undrivable(f"the process that serves {s.mounted.exported} is not known: {len(pids)} name it")
    rule = f"{RECORDING}:error=EDQUOT:when={step}"
    argv = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={RECORDING}", "-e", f"inject={rule}", "-p", pids[0]]
    tracer = s.outside.start_program(argv)
    try:
        if not happens(lambda: _traced(s, pids[0]), _ATTACHED, 0.05):
            raise Undrivable("strace does not attach to the process that serves the share")
        yield
    finally:
        s.outside.end_program(tracer)


def _traced(s: Share, pid: str) -> bool:
    """Whether all threads of that process have a tracer."""
    each = f"for one in /proc/{pid}/task/*/status; do grep -q '^TracerPid:.*[1-9]' $one || exit 1; done"
    return int(s.outside.run(["sh", "-c", each])["status"]) == 0


@case(
    "MODEL-015",
    needs=[*NEEDS, "mount-namespace", "host-root"],
    control=False,
    caches=UNCACHED,
    seconds=180,
)
@pytest.mark.parametrize("change", [change for change in CHANGES if change not in ("link", "rename")])
def test_all_or_nothing_of_each_part(share: Share, change: str) -> None:
    """In the model mapped-xattr a call fails with EDQUOT and changes nothing, whichever part of its record the host
    refuses, also when the file has been made and the first parts are recorded.
    Source: POSIX open, mkdir, symlink, mknod, chmod, chown: what fails changes nothing; setxattr(2) EDQUOT."""
    s = there(share, "mapped-xattr")
    with s.without_comparison():
        s.outside.mkdir("t")
        s.outside.chmod("t", 0o777)
        s.outside.mkdir("t/d")
        s.outside.create("t/fred", b"of the host")
        s.inside.create("t/barney", b"content", 0o611)
        before = portrait(s, "mapped-xattr", "t")
        for step in range(1, MOST_PARTS + 2):
            refused = 0
            with refusing(s, step):
                try:
                    CHANGES[change](s.inside, "t")
                except OSError as e:
                    refused = e.errno or -1
            if not refused:
                break
            equal(f"errno of {change} whose part {step} is refused", Errno(refused), Errno(EDQUOT), code="errno")
            for what, value in portrait(s, "mapped-xattr", "t").items():
                equal(f"{what} after {change} was refused in part {step}", value, before.get(what), code="changed")
        holds("a part of the record is refused, and the call with it", step > 1, seen=step, code="errno")
        name, wanted = WORKED[change]
        shows(s.inside, f"t/{name}", **wanted)
