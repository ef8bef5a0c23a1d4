"""Family `statfs`: the numbers of Tstatfs that df(1) uses.

What is at stake: `df`, and every installer that checks for free space: space reserved for root is not available to a
user.
"""

from __future__ import annotations

from conformance.case import case
from conformance.checks import between, equal, holds
from conformance.errors import Undrivable
from conformance.raw.wire import Wire
from protocol.messages import Tstatfs


@case("WIRE-STATFS-001", covers=[Tstatfs], severity="linux")
def test_reserved_room(wire: Wire) -> None:
    """Space reserved for root is free but not available: bavail is less than bfree by as much as on the host.
    Source: statfs(2), "f_bavail: free blocks available to unprivileged user"; df(1) shows it."""
    host = wire.host.statvfs()
    reserved = (host.f_bfree - host.f_bavail) * host.f_frsize
    reply = wire.client.statfs(wire.client.root)
    if reserved <= 2 * reply.bsize:
        raise Undrivable("the exported file system keeps no room for root: all that is free is available")
    seen = (reply.bfree - reply.bavail) * reply.bsize
    # Both numbers are rounded to whole blocks of the server; the reserved space does not change by use.
    between("bytes that are free and not available", seen, reserved - reply.bsize, reserved + reply.bsize)


@case("WIRE-STATFS-002", covers=[Tstatfs], severity="linux")
def test_free_inodes(wire: Wire) -> None:
    """The number of free inodes is the host's, not the total.  Source: statfs(2) f_ffree; df -i shows it, and mail
    servers refuse mail because of it."""
    before = wire.host.statvfs()
    reply = wire.client.statfs(wire.client.root)
    after = wire.host.statvfs()
    used = before.f_files - before.f_ffree
    if used < 1000:
        raise Undrivable("the exported file system has few inodes in use, or does not count them")
    low, high = sorted((before.f_ffree, after.f_ffree))
    # Other processes of this host make and remove files meanwhile.
    between("ffree in Rstatfs", reply.ffree, low - used // 4, high + used // 4, code="field:ffree")


@case("WIRE-STATFS-003", covers=[Tstatfs], severity="varies")
def test_identity(wire: Wire) -> None:
    """The file system's id is the host's, with its halves in the host's order.  Source: statfs(2) f_fsid; QEMU
    v9fs_fill_statfs and diod combine the halves this way; nfs-ganesha has its own id."""
    seen = wire.client.statfs(wire.client.root).fsid
    equal("fsid in Rstatfs", seen, wire.host.statvfs().f_fsid, code="field:fsid")


@case("WIRE-STATFS-004", covers=[Tstatfs])
def test_same_for_every_file(wire: Wire) -> None:
    """Every fid of one file system gives the same identity, size and type.  Source: statfs(2), "any file within the
    mounted filesystem"."""
    client = wire.client
    wire.host.file(b"fred")
    wire.host.directory(b"dir")
    first = client.statfs(client.root)
    for name in (b"fred", b"dir"):
        other = client.statfs(client.walk_to(name))
        for field in ("fstype", "bsize", "blocks", "files", "fsid", "namelen"):
            seen, wanted = getattr(other, field), getattr(first, field)
            equal(f"{field} in Rstatfs of {name!r}, beside that of the root", seen, wanted, code=f"field:{field}")
    holds("bsize in Rstatfs is a size", first.bsize > 0, seen=first.bsize, code="field:bsize")


@case("WIRE-STATFS-005", covers=[Tstatfs], severity="varies")
def test_symbolic_link(wire: Wire) -> None:
    """Tstatfs of a dangling symbolic link works: the link itself is on a file system.  Source: fstatfs(2) of a link
    opened with O_PATH | O_NOFOLLOW, for which v9fs_statfs asks with the link's fid; diod follows it, QEMU's
    local_statfs refuses it."""
    client = wire.client
    wire.host.symlink(b"link", b"nowhere")
    reply, root = client.statfs(client.walk_to(b"link")), client.statfs(client.root)
    equal("blocks in Rstatfs of a symbolic link", reply.blocks, root.blocks, code="field:blocks")
