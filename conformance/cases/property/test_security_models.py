"""QEMU's security models: what the guest sees is right in each, and the host has what the model promises.

passthrough: owner, mode and type of the guest's files are the host's. none: the same, without complaint where the
server may not. mapped-xattr: they are kept in user.virtfs.* attributes, mapped-file: in .virtfs_metadata; the host has
plain 0600 files of the server's user.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES, EINVAL, ENODATA, ENOENT, EPERM

import pytest

from conformance.case import case
from conformance.cases.property.mounting import said
from conformance.cases.vfs.outcomes import DIRECT_CACHES, must_be_equal
from conformance.share import Share
from conformance.targets.deployment import Device, SecurityModel
from conformance.vantage import Vantage
from protocol.messages import Tlcreate, Tmkdir, Tmknod, Trenameat, Tsetattr, Tsymlink, Tunlinkat

NEEDS = ["qemu-machine"]
MAPPED: tuple[SecurityModel, ...] = ("mapped-xattr", "mapped-file")
ALL: tuple[SecurityModel, ...] = ("passthrough", *MAPPED, "none")
METADATA = ".virtfs_metadata"
SECRET = 0o600


def there(share: Share, model: SecurityModel) -> Share:
    """A share of that model; the control file system itself on control, where there is only one way."""
    if share.on_control:
        return share
    if model == "passthrough":
        share.need("host-root", "passthrough changes owners on the host")
    return share.another(Device(model))


def owners_kept(share: Share, model: SecurityModel) -> bool:
    """Whether owners that the guest sets can be kept: model none without privilege drops them."""
    return model != "none" or "host-root" in share.features


def mapped(outside: Vantage, path: str, model: SecurityModel) -> dict[str, int]:
    """What the host has recorded for that file: those of uid, gid, mode and rdev that there are."""
    if model == "mapped-xattr":
        names = outside.listxattr(path, follow_symlinks=False)
        read = {n: outside.getxattr(path, n, follow_symlinks=False) for n in names if n.startswith("user.virtfs.")}
        return {n.rpartition(".")[2]: int.from_bytes(value, "little") for n, value in read.items()}
    directory, name = os.path.split(path)
    try:
        text = outside.slurp(os.path.join(directory, METADATA, name)).decode()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=")[::2] for line in text.splitlines())
    return {name.rpartition(".")[2]: int(value) for name, value in pairs}


def seen(vantage: Vantage, path: str) -> tuple[int, int, int]:
    """Mode with type, owner and group."""
    s = vantage.lstat(path)
    return s["st_mode"], s["st_uid"], s["st_gid"]


@case("MODEL-001", needs=NEEDS, covers=[Tlcreate, Tmkdir, Tsymlink, Tsetattr])
@pytest.mark.parametrize("model", ALL)
def test_guest_sees_what_it_made(share: Share, model: SecurityModel) -> None:
    """Files, directories and links that the guest made have the type and mode that it gave them, and the owner that
    it set; a fresh look after everything was forgotten shows the same.
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
            assert seen(s.inside, name)[1:] == owner, name
    assert seen(s.inside, "file")[0] == stat.S_IFREG | 0o4755
    assert seen(s.inside, "dir")[0] == stat.S_IFDIR | 0o2711
    assert stat.S_ISLNK(seen(s.inside, "link")[0])
    assert s.inside.readlink("link") == "file"
    assert s.inside.slurp("link") == b"content"
    assert s.inside.listdir(".") == ["dir", "file", "link"]
    s.same_directory(".")


@case("MODEL-002", needs=NEEDS, control=False, covers=[Tlcreate, Tsetattr], caches=DIRECT_CACHES)
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
    mode, uid, gid = seen(s.outside, "fred")
    assert mode == stat.S_IFREG | SECRET, oct(mode)
    assert uid == s.outside.lstat(".")["st_uid"]
    assert gid not in (1002,)
    assert mapped(s.outside, "fred", model) == {"uid": 1001, "gid": 1002, "mode": stat.S_IFREG | 0o6755}
    assert s.outside.slurp("fred") == b"content"


@case("MODEL-003", needs=NEEDS, control=False, covers=[Tmkdir, Tsetattr], caches=DIRECT_CACHES)
@pytest.mark.parametrize("model", MAPPED)
def test_directories_stay_usable(share: Share, model: SecurityModel) -> None:
    """In the mapped models a directory is a directory of mode 0700 on the host, and its recorded mode, 0 even, takes
    nothing from the server.
    Source: QEMU's manual, -fsdev dmode (default 0700); known defect: android-vshell#7, chmod of a directory."""
    s = there(share, model)
    with s.without_comparison():
        s.inside.mkdir("d", 0o755)
        for wanted in (0o700, 0o2777, 0):
            s.inside.chmod("d", wanted)
            assert seen(s.inside, "d")[0] == stat.S_IFDIR | wanted
        s.inside.create("d/fred", b"content")
        assert s.inside.slurp("d/fred") == b"content"
    assert seen(s.outside, "d")[0] == stat.S_IFDIR | 0o700
    assert mapped(s.outside, "d", model)["mode"] == stat.S_IFDIR


@case("MODEL-004", needs=NEEDS, control=False, covers=[Tsymlink], caches=DIRECT_CACHES)
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
        assert s.inside.readlink(name) == target
        assert s.inside.lstat(name)["st_size"] == len(target)
        assert stat.S_ISREG(s.outside.lstat(name)["st_mode"])
        assert s.outside.slurp(name).decode() == target


@case("MODEL-005", needs=NEEDS, control=False, covers=[Tmknod], caches=DIRECT_CACHES)
@pytest.mark.parametrize("model", MAPPED)
@pytest.mark.parametrize("kind", [stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK],
                         ids=["char", "block", "fifo", "socket"])  # fmt: skip
def test_special_files_are_plain_files(share: Share, model: SecurityModel, kind: int) -> None:
    """In the mapped models the guest makes fifos, sockets and device nodes with their mode and number, and the host
    has plain empty files.
    Source: QEMU's manual, -fsdev security_model=mapped; hw/9pfs/9p-local.c local_mknod."""
    s = there(share, model)
    device = os.makedev(1, 5) if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0
    with s.without_comparison():
        s.inside.mknod("node", kind | 0o640, device)
    inside, outside = s.inside.lstat("node"), s.outside.lstat("node")
    assert (inside["st_mode"], inside["st_rdev"]) == (kind | 0o640, device)
    assert (outside["st_mode"], outside["st_rdev"], outside["st_size"]) == (stat.S_IFREG | SECRET, 0, 0)
    if kind == stat.S_IFCHR:
        assert s.inside.read(s.inside.open("node", os.O_RDONLY), 3) == bytes(3)  # the guest's /dev/zero
    with s.without_comparison():
        s.inside.unlink("node")
    s.gone("node")


@case("MODEL-006", needs=[*NEEDS, "host-root"], control=False, covers=[Tlcreate, Tsetattr], caches=DIRECT_CACHES)
@pytest.mark.parametrize("model", ["passthrough", "none"])
def test_host_has_the_guests_owners(share: Share, model: SecurityModel) -> None:
    """In passthrough, and in none with a server that may, owner, group and all twelve bits of mode are the host's own,
    and nothing else is recorded.
    Source: QEMU's manual, -fsdev security_model=passthrough, none."""
    s = there(share, model)
    s.inside.create("fred", b"content", 0o640)
    s.inside.chown("fred", 1001, 1002)
    s.inside.chmod("fred", 0o6755)
    assert seen(s.outside, "fred") == (stat.S_IFREG | 0o6755, 1001, 1002)
    assert s.outside.listxattr("fred") == []
    bob = s.inside.spawn("bob", uid=1001, gid=1001)
    bob.create("of bob", b"", 0o600)
    assert seen(s.outside, "of bob") == (stat.S_IFREG | 0o600, 1001, 1001)
    assert s.outside.listdir(".") == ["fred", "of bob"]
    for name in (".", "fred", "of bob"):
        s.same_stat(name)


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
    wanted = seen(s.inside, "fred")
    s.inside.link("fred", "d/linked")
    s.inside.rename("fred", "renamed")
    s.inside.rename("renamed", "d/over")
    assert seen(s.inside, "d/over") == seen(s.inside, "d/linked") == wanted
    s.inside.rename("d", "e")
    assert seen(s.inside, "e/over") == wanted
    s.inside.unlink("e/over")
    s.inside.create("e/over", b"", 0o600)
    assert seen(s.inside, "e/over")[0] == stat.S_IFREG | 0o600
    assert seen(s.inside, "e/linked") == wanted
    for name in ("e/over", "e/linked"):
        s.inside.unlink(name)
    s.inside.rmdir("e")
    assert s.inside.listdir(".") == []


@case("MODEL-008", needs=[*NEEDS, "host-root"], control=False, caches=DIRECT_CACHES)
@pytest.mark.parametrize("model", ALL)
def test_files_of_the_host(share: Share, model: SecurityModel) -> None:
    """A file that the host made, for which nothing is recorded, shows inside with the host's own type, mode and
    owner; once the guest changes its mode, it shows that.
    Source: hw/9pfs/9p-local.c local_lstat: recorded values replace the host's where there are any."""
    s = there(share, model)
    s.outside.create("fred", b"content")
    s.outside.chown("fred", 1001, 1002)
    s.outside.chmod("fred", 0o644)
    s.outside.symlink("fred", "link")
    s.outside.mkdir("d")
    assert seen(s.inside, "fred") == (stat.S_IFREG | 0o644, 1001, 1002)
    assert stat.S_ISDIR(seen(s.inside, "d")[0])
    s.inside.chmod("fred", 0o604)
    assert seen(s.inside, "fred") == (stat.S_IFREG | 0o604, 1001, 1002)


@case("MODEL-009", needs=NEEDS, control=False, caches=DIRECT_CACHES)
def test_recorded_attributes_are_hidden(share: Share) -> None:
    """In mapped-xattr the guest neither lists nor reads user.virtfs.* attributes, and it may neither set nor remove
    them: else it could forge owners and types behind its kernel's back.
    Source: hw/9pfs/9p-xattr-user.c mp_user_getxattr ENODATA, mp_user_setxattr and mp_user_removexattr EACCES."""
    s = there(share, "mapped-xattr")
    with s.without_comparison():
        s.inside.create("fred", b"content", 0o640)
        s.inside.setxattr("fred", "user.a", b"value")
    recorded = mapped(s.outside, "fred", "mapped-xattr")
    assert s.inside.listxattr("fred") == ["user.a"]
    assert s.same_xattrs("fred") == {"user.a": b"value"}
    s.inside.refuses(ENODATA).getxattr("fred", "user.virtfs.mode")
    s.inside.refuses(EACCES).setxattr("fred", "user.virtfs.mode", (stat.S_IFREG | 0o4777).to_bytes(4, "little"))
    s.inside.refuses(EACCES).removexattr("fred", "user.virtfs.uid")
    assert mapped(s.outside, "fred", "mapped-xattr") == recorded


@case("MODEL-010", needs=NEEDS, control=False, caches=DIRECT_CACHES)
def test_metadata_directory_is_out_of_reach(share: Share) -> None:
    """In mapped-file the guest does not see .virtfs_metadata in any directory and can neither open, make, rename,
    link nor remove anything of that name.
    Source: hw/9pfs/9p-local.c local_is_mapped_file_metadata: EINVAL; a look-up may say ENOENT; known defect:
    CVE-2017-7493, guest forges owners by names of the metadata."""
    s = there(share, "mapped-file")
    refuses = s.inside.refuses(EINVAL, ENOENT, because="the name does not exist for the guest")
    with s.without_comparison():
        s.inside.mkdir("d")
        s.inside.create("fred", b"content", 0o640)
        s.inside.create("d/fred", b"content", 0o640)
        recorded = s.outside.slurp(f"{METADATA}/fred")
        for directory in (".", "d"):
            assert METADATA not in [entry[0] for entry in s.inside.readdir_all(directory)]
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
    assert s.outside.slurp(f"{METADATA}/fred") == recorded
    assert s.same_directory(".") == ["d", "fred"]


@case("MODEL-011", needs=[*NEEDS, "guest-root"], caches=DIRECT_CACHES)
@pytest.mark.parametrize("model", ALL)
def test_permission_is_judged_by_what_the_guest_sees(share: Share, model: SecurityModel) -> None:
    """A user of the guest may what owner and mode that the guest sees say: read her own 0600 file, not another's,
    and not change its mode or owner.
    Source: path_resolution(7), chmod(2), chown(2) EPERM; 9P2000.L leaves permission to the client (access=client)."""
    s = there(share, model)
    if not owners_kept(s, model):
        share.need("host-root", "model none without privilege keeps no owners")
    bob, carol = s.inside.spawn("bob", uid=1001), s.inside.spawn("carol", uid=1002)
    bob.create("of bob", b"secret", 0o600)
    assert bob.slurp("of bob") == b"secret"
    carol.refuses(EACCES).open("of bob", os.O_RDONLY)
    carol.refuses(EPERM).chmod("of bob", 0o666)
    carol.refuses(EPERM).chown("of bob", 1002, 1002)
    bob.chmod("of bob", 0o644)
    assert carol.slurp("of bob") == b"secret"


@case("MODEL-012", needs=[*NEEDS, "guest-root"], covers=[Tlcreate], caches=DIRECT_CACHES)
@pytest.mark.parametrize("model", ALL)
def test_set_id_programs(share: Share, model: SecurityModel) -> None:
    """A set-user-ID program that the guest's root put on the share runs as root for another user, in every model.
    Source: execve(2); the bits are those that the guest sees."""
    s = there(share, model)
    if not owners_kept(s, model):
        share.need("host-root", "model none without privilege keeps no owners")
    program = s.inside.which("id")
    with s.without_comparison():
        done = s.inside.run(["/bin/cp", program, f"{s.inside.root}/id"])
        must_be_equal("cp", (done["status"], said(done)), (0, ""))
        s.inside.chown("id", 0, 0)
        s.inside.chmod("id", 0o4755)
    ran = s.inside.spawn("bob", uid=1001).run(["./id", "-u"])
    assert (ran["status"], ran["stdout"]) == (0, b"0\n"), said(ran)
