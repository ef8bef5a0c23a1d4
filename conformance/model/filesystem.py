"""The model: a tree of files, directories and symbolic links, and the files that are open.

Errors and their order are those of Linux's VFS (fs/namei.c, fs/open.c), because a Linux guest makes the calls. Where
POSIX allows several errors, all of them are allowed. Root makes the calls, so permissions are not checked. The umask
is 022.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from errno import (
    EACCES,
    EAGAIN,
    EBADF,
    EEXIST,
    EINVAL,
    EISDIR,
    ELOOP,
    ENODATA,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
)
from typing import Any, Literal

from conformance.model.step import Allowed, Operand, Step, Where

Kind = Literal["file", "directory", "link"]

UMASK = 0o022
LOCKED = 16
"""Record locks begin and end below this byte, which stands for all that follow: a lock to the end ends there."""
_LINKS = 40
"""Symbolic links followed in one path, at most: MAXSYMLINKS of include/linux/namei.h."""


class Refused(Exception):
    """The call fails with one of these errors."""

    def __init__(self, *errors: int) -> None:
        super().__init__(errors)
        self.errors = frozenset(errors)


@dataclass(eq=False, slots=True)
class Inode:
    """A file of any kind. `nlink` counts the names of what is not a directory."""

    kind: Kind
    mode: int
    number: int
    nlink: int = 1
    data: bytearray = field(default_factory=bytearray)
    target: str = ""
    entries: dict[str, Inode] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    linked: bool = False
    """It has, or once had, a second name."""
    locks: dict[int, dict[Where, str]] = field(default_factory=dict)
    """Byte -> process -> the kind of record lock that it has there, "r" or "w"."""
    renamed_to_itself: bool = False
    """It was renamed from one of its names to another: a call that changes nothing, rename(2)."""

    def seen(self) -> dict[str, Any]:
        """The fields of lstat(2) that the model knows; for directories neither size nor link count."""
        known: dict[str, Any] = {"kind": self.kind, "mode": self.mode}
        if self.kind != "directory":
            known["nlink"] = self.nlink
            known["size"] = len(self.data) if self.kind == "file" else len(self.target)
        if self.kind == "link":
            del known["mode"]  # file systems differ, and nothing depends on it
        return known


@dataclass(eq=False, slots=True)
class Open:
    """An open file description."""

    inode: Inode
    flags: int
    path: str
    """The path that it was opened by."""
    process: Where
    offset: int = 0

    @property
    def reads(self) -> bool:
        """Whether read(2) is allowed."""
        return self.flags & os.O_ACCMODE in (os.O_RDONLY, os.O_RDWR)

    @property
    def writes(self) -> bool:
        """Whether write(2) is allowed."""
        return self.flags & os.O_ACCMODE in (os.O_WRONLY, os.O_RDWR)


@dataclass(frozen=True, slots=True)
class _Found:
    """Where a path leads: the directory and name of its last component, and what is there."""

    parent: Inode
    name: str
    inode: Inode | None


class FileSystem:
    """The state. `step` returns the allowed results of a call, and applies its effect to the model."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self.root = self._new("directory", 0o755)
        self.open: dict[int, Open] = {}
        """Slot -> what is open there."""
        self._process: Where = "inside"
        """Who makes the present call."""

    def applies(self, step: Step) -> bool:
        """Whether the step can be made: a slot that it uses is open, one that it opens is free."""
        if step.op == "open":
            return step.slot not in self.open
        if step.where == "outside" and self.open:
            return False  # vfs/unlinked has cases for files that the guest holds open while the host changes them
        if step.slot is None:
            return True
        opened = self.open.get(step.slot)
        if opened is None or opened.process != step.where:
            return False
        # where the guest has an inode for each name, locks and mapped pages belong to a name
        return step.op not in ("lock", "mapread") or (opened.inode.kind == "file" and not opened.inode.linked)

    def step(self, step: Step) -> Allowed:
        """The allowed results of the step. If it may succeed, its effect is applied to the model."""
        state, self._process = self.about(step), step.where
        method: Callable[..., Any] = getattr(self, f"_{step.op}")
        operands: tuple[Operand | int | None, ...] = step.operands
        if step.slot is not None:
            operands = (step.slot, *operands)
        try:
            value = method(*operands)
        except Refused as refused:
            return Allowed(errors=refused.errors, succeeds=False, state=state)
        if isinstance(value, Allowed):
            return Allowed(value.value, value.errors, value.succeeds, value.any_value, state)
        return Allowed(value, state=state)

    def tree(self) -> Iterator[tuple[str, Inode]]:
        """Each path below the root with its inode, parents first, sorted."""
        pending = [("", self.root)]
        while pending:
            prefix, directory = pending.pop()
            for name, inode in sorted(directory.entries.items()):
                yield f"{prefix}{name}", inode
                if inode.kind == "directory":
                    pending.append((f"{prefix}{name}/", inode))

    def about(self, step: Step) -> tuple[str, ...]:
        """`Allowed.state` of the step, if it is made now."""
        opened = self.open.get(step.slot) if step.slot is not None else None
        if opened is None:
            return self.state_of(str(step.operands[0])) if step.operands else ()
        inode = opened.inode
        if not inode.nlink:
            return ("unlinked", *_named(inode))
        if not self._leads_to(opened.path, inode):
            return ("moved", *_named(inode))
        return (*(("renamed to itself",) if inode.renamed_to_itself else ()), *_named(inode))

    def state_of(self, path: str) -> tuple[str, ...]:
        """`Allowed.state` of the file at a path: "linked", and its kind; nothing if there is no file."""
        try:
            inode = self._find(path, follow=True).inode
        except Refused:
            return ()
        return () if inode is None else _named(inode)

    def _leads_to(self, path: str, inode: Inode) -> bool:
        try:
            return self._find(path, follow=True).inode is inode
        except Refused:
            return False

    def _new(self, kind: Kind, mode: int) -> Inode:
        return Inode(kind, mode, next(self._numbers))

    # ---- paths

    def _find(self, path: str, *, follow: bool, links: int = 0, start: Inode | None = None) -> _Found:
        """Where `path` leads. The last component need not exist; all others must be directories."""
        directory = self.root if start is None else start
        *before, last = path.split("/")
        for name in before:
            links, directory = self._enter(directory, name, links)
        inode = directory.entries.get(last)
        if inode is None or inode.kind != "link" or not follow:
            return _Found(directory, last, inode)
        if links >= _LINKS:
            raise Refused(ELOOP)
        return self._find(inode.target, follow=True, links=links + 1, start=directory)

    def _enter(self, directory: Inode, name: str, links: int) -> tuple[int, Inode]:
        inode = directory.entries.get(name)
        if inode is None:
            raise Refused(ENOENT)
        if inode.kind == "link":
            if links >= _LINKS:
                raise Refused(ELOOP)
            found = self._find(inode.target, follow=True, links=links + 1, start=directory)
            links, inode = links + 1, found.inode
            if inode is None:
                raise Refused(ENOENT)
        if inode.kind != "directory":
            raise Refused(ENOTDIR)
        return links, inode

    def _existing(self, path: str, *, follow: bool = True) -> Inode:
        found = self._find(path, follow=follow)
        if found.inode is None:
            raise Refused(ENOENT)
        return found.inode

    def _vacant(self, path: str) -> _Found:
        found = self._find(path, follow=False)
        if found.inode is not None:
            raise Refused(EEXIST)
        return found

    # ---- names

    def _mkdir(self, path: str, mode: int) -> None:
        found = self._vacant(path)
        found.parent.entries[found.name] = self._new("directory", mode & ~UMASK)

    def _rmdir(self, path: str) -> None:
        found = self._find(path, follow=False)
        if found.inode is None:
            raise Refused(ENOENT)
        if found.inode.kind != "directory":
            raise Refused(ENOTDIR)
        if found.inode.entries:
            raise Refused(ENOTEMPTY, EEXIST)
        del found.parent.entries[found.name]
        found.inode.nlink = 0

    def _unlink(self, path: str) -> None:
        found = self._find(path, follow=False)
        if found.inode is None:
            raise Refused(ENOENT)
        if found.inode.kind == "directory":
            raise Refused(EISDIR, EPERM)
        del found.parent.entries[found.name]
        found.inode.nlink -= 1

    def _link(self, old: str, new: str) -> None:
        source = self._find(old, follow=False).inode
        if source is None:
            raise Refused(ENOENT)
        found = self._vacant(new)
        if source.kind == "directory":
            raise Refused(EPERM)
        found.parent.entries[found.name] = source
        source.nlink += 1
        source.linked = True

    def _symlink(self, target: str, path: str) -> None:
        found = self._vacant(path)
        made = self._new("link", 0o777)
        made.target = target
        found.parent.entries[found.name] = made

    def _readlink(self, path: str) -> str:
        inode = self._existing(path, follow=False)
        if inode.kind != "link":
            raise Refused(EINVAL)
        return inode.target

    def _rename(self, old: str, new: str) -> None:
        source, target = self._find(old, follow=False), self._find(new, follow=False)
        moved, replaced = source.inode, target.inode
        if moved is None:
            raise Refused(ENOENT)
        if moved.kind == "directory" and self._within(target.parent, moved):
            raise Refused(EINVAL)
        if replaced is not None and replaced.kind == "directory" and self._within(source.parent, replaced):
            raise Refused(ENOTEMPTY, EEXIST)
        if replaced is moved:
            moved.renamed_to_itself = moved.renamed_to_itself or old != new
            return
        if replaced is not None:
            if moved.kind == "directory" and replaced.kind != "directory":
                raise Refused(ENOTDIR)
            if moved.kind != "directory" and replaced.kind == "directory":
                raise Refused(EISDIR)
            if replaced.entries:
                raise Refused(ENOTEMPTY, EEXIST)
            replaced.nlink = 0 if replaced.kind == "directory" else replaced.nlink - 1
        del source.parent.entries[source.name]
        target.parent.entries[target.name] = moved

    def _within(self, directory: Inode, top: Inode) -> bool:
        """Whether `directory` is `top` or lies below it."""
        return directory is top or any(
            self._within(directory, inode) for inode in top.entries.values() if inode.kind == "directory"
        )

    def _listdir(self, path: str) -> list[str]:
        inode = self._existing(path)
        if inode.kind != "directory":
            raise Refused(ENOTDIR)
        return sorted(inode.entries)

    # ---- attributes

    def _lstat(self, path: str) -> dict[str, Any]:
        return self._existing(path, follow=False).seen()

    def _stat(self, path: str) -> dict[str, Any]:
        return self._existing(path).seen()

    def _chmod(self, path: str, mode: int) -> None:
        self._existing(path).mode = mode

    def _truncate(self, path: str, length: int) -> None:
        inode = self._existing(path)
        if inode.kind == "directory":
            raise Refused(EISDIR)
        _resize(inode, length)

    def _setxattr(self, path: str, name: str, value: bytes, flags: int) -> None:
        inode = self._existing(path)
        if flags == os.XATTR_CREATE and name in inode.xattrs:
            raise Refused(EEXIST)
        if flags == os.XATTR_REPLACE and name not in inode.xattrs:
            raise Refused(ENODATA)
        inode.xattrs[name] = value

    def _getxattr(self, path: str, name: str) -> bytes:
        inode = self._existing(path)
        if name not in inode.xattrs:
            raise Refused(ENODATA)
        return inode.xattrs[name]

    def _listxattr(self, path: str) -> list[str]:
        return sorted(self._existing(path).xattrs)

    def _removexattr(self, path: str, name: str) -> None:
        inode = self._existing(path)
        if name not in inode.xattrs:
            raise Refused(ENODATA)
        del inode.xattrs[name]

    # ---- open files

    def _open(self, slot: int, path: str, flags: int, mode: int) -> None:
        follow = not flags & os.O_NOFOLLOW and flags & (os.O_CREAT | os.O_EXCL) != os.O_CREAT | os.O_EXCL
        found = self._find(path, follow=follow)
        inode = found.inode
        if flags & os.O_CREAT:
            inode = self._created(found, flags, mode)
        if inode is None:
            raise Refused(ENOENT)
        if inode.kind == "link":
            raise Refused(*((ELOOP, ENOTDIR) if flags & os.O_DIRECTORY else (ELOOP,)))
        if flags & os.O_DIRECTORY and inode.kind != "directory":
            raise Refused(ENOTDIR)
        if inode.kind == "directory" and (flags & os.O_ACCMODE or flags & os.O_TRUNC):
            raise Refused(EISDIR)
        if flags & os.O_TRUNC:
            inode.data.clear()
        self.open[slot] = Open(inode, flags, path, self._process)

    def _created(self, found: _Found, flags: int, mode: int) -> Inode:
        if found.inode is None:
            found.parent.entries[found.name] = made = self._new("file", mode & ~UMASK)
            return made
        if flags & os.O_EXCL:
            raise Refused(EEXIST)
        if found.inode.kind == "directory":
            raise Refused(EISDIR)
        return found.inode

    def _close(self, slot: int) -> None:
        opened = self.open.pop(slot)
        for held in opened.inode.locks.values():  # through whichever descriptor they were taken: fcntl(2)
            held.pop(opened.process, None)

    def _read(self, slot: int, count: int) -> bytes:
        opened = self._readable(slot)
        data = bytes(opened.inode.data[opened.offset : opened.offset + count])
        opened.offset += len(data)
        return data

    def _pread(self, slot: int, count: int, offset: int) -> bytes:
        return bytes(self._readable(slot).inode.data[offset : offset + count])

    def _readable(self, slot: int) -> Open:
        opened = self.open[slot]
        if not opened.reads:
            raise Refused(EBADF)
        if opened.inode.kind == "directory":
            # where lseek(2) has moved to an end that ext4 invents, the offset is refused before the kind is checked
            raise Refused(EISDIR, EINVAL)
        return opened

    def _write(self, slot: int, data: bytes) -> int:
        opened = self._writable(slot)
        if data:  # a write of 0 bytes leaves the offset, even with O_APPEND (generic_write_checks)
            at = len(opened.inode.data) if opened.flags & os.O_APPEND else opened.offset
            opened.offset = at + _put(opened.inode, at, data)
        return len(data)

    def _pwrite(self, slot: int, data: bytes, offset: int) -> int:
        # Linux appends whatever the offset says (pwrite(2), BUGS)
        opened = self._writable(slot)
        return _put(opened.inode, len(opened.inode.data) if opened.flags & os.O_APPEND else offset, data)

    def _writable(self, slot: int) -> Open:
        opened = self.open[slot]
        if not opened.writes:
            raise Refused(EBADF)
        return opened

    def _lseek(self, slot: int, offset: int, whence: int) -> int | Allowed:
        opened = self.open[slot]
        if opened.inode.kind == "directory":
            return Allowed(any_value=True, errors=frozenset({EINVAL}))
        base = {os.SEEK_SET: 0, os.SEEK_CUR: opened.offset, os.SEEK_END: len(opened.inode.data)}[whence]
        if base + offset < 0:
            raise Refused(EINVAL)
        opened.offset = base + offset
        return opened.offset

    def _ftruncate(self, slot: int, length: int) -> None:
        opened = self.open[slot]
        if not opened.writes:
            raise Refused(EINVAL, EBADF)
        _resize(opened.inode, length)

    def _fchmod(self, slot: int, mode: int) -> None:
        self.open[slot].inode.mode = mode

    def _fstat(self, slot: int) -> dict[str, Any]:
        return self.open[slot].inode.seen()

    def _lock(self, slot: int, kind: str, start: int, length: int) -> None:
        """fcntl(2) F_SETLK; see LOCKED."""
        opened = self.open[slot]
        if (kind == "r" and not opened.reads) or (kind == "w" and not opened.writes):
            raise Refused(EBADF)
        bytes_ = range(start, start + length if length else LOCKED)
        for at in bytes_ if kind != "u" else ():
            others = [held for process, held in opened.inode.locks.get(at, {}).items() if process != opened.process]
            if "w" in others or (others and kind == "w"):
                raise Refused(EAGAIN, EACCES)
        for at in bytes_:
            held = opened.inode.locks.setdefault(at, {})
            held.pop(opened.process, None)
            if kind != "u":
                held[opened.process] = kind

    def _mapread(self, slot: int, count: int, offset: int) -> bytes:
        opened = self.open[slot]
        if not opened.reads:
            raise Refused(EACCES)
        return bytes(opened.inode.data[offset : offset + count])

    def _fsync(self, slot: int) -> None:
        """No effect that a call can see."""


def _named(inode: Inode) -> tuple[str, ...]:
    """Its kind, preceded by "linked" if it has, or had, a second name."""
    return ("linked", inode.kind) if inode.linked else (inode.kind,)


def _resize(inode: Inode, length: int) -> None:
    if length < len(inode.data):
        del inode.data[length:]
    else:
        inode.data.extend(bytes(length - len(inode.data)))


def _put(inode: Inode, at: int, data: bytes) -> int:
    """Write `data` there; a gap before it reads as zeros. A write of 0 bytes changes nothing."""
    if data:
        if at > len(inode.data):
            _resize(inode, at)
        inode.data[at : at + len(data)] = data
    return len(data)
