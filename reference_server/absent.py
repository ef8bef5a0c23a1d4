"""Files whose descriptor was closed to save descriptors: how each is found again, and when it must be reopened at once.

The rule of this module: a lookup finds the very same file, or the request fails with ESTALE.  A file is identified by
device, inode number, type, and what distinguishes a reused inode number from its first use: the generation in its
handle, or its time of birth.

A file is found by its handle (name_to_handle_at(2)), where the process may open handles and the file is on the mount of
the export's root: one that is reached through another mount may be read-only there, which a handle does not know.
Otherwise, and for files other than directories first, by the path that the kernel reported when the descriptor was
given up, walked beneath the root by openat2(2) without following a link.  (A file other than a directory that was
opened by its handle may have no name as far as the kernel knows, and Tremove and Trename by its fid need one.)

When a client's request removes a name (unlink, rmdir, rename over it, rename), no fid loses its file: absent files with
that name are opened first. When a client renames a directory, the recorded paths below it change, too. A file that a
process of the host removes meanwhile is gone, and one that it renames is found only by its handle.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol
from weakref import WeakValueDictionary

from protocol.constants import S_IFDIR
from reference_server import linux
from reference_server.descriptors import RELEASED, Cached, Descriptor, Descriptors, Outcome
from reference_server.identity import Identity

PATH_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
CONFINED = linux.RESOLVE_BENEATH | linux.RESOLVE_NO_MAGICLINKS | linux.RESOLVE_NO_SYMLINKS
_NO_LASTING_HANDLES = (b"fuse", b"overlay")
"""Types of file systems whose handles are valid only while the kernel caches the file, or never."""
_NO_LASTING_BIRTH = (b"overlay",)
"""The first write moves a file to the upper layer, where it has a later birth time."""
_ANY = -1
_MOUNTS = 256
"""Mounts whose file system is remembered."""
_DELETED = b" (deleted)"
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV, errno.ESTALE})


@dataclass(slots=True, weakref_slot=True, eq=False)
class _Folder:
    """A directory's path from the root, shared by all files in it that are absent."""

    path: bytes | None
    """None when another directory took its place."""


class Whereabouts(NamedTuple):
    """How one file is found again. There may be hundreds of thousands of these."""

    device: int
    inode: int
    type: int
    born: int
    """As :class:`linux.Identity` has them; -1 where the handle, which has a generation, says more, or it changes."""
    handle: bytes
    """Empty where the file system has none."""
    openable: bool
    """Whether the handle can be opened; else it is compared only."""
    folder: _Folder | None
    name: bytes


class Absentee(Cached, Protocol):
    """The part of a node that this module uses."""

    descriptor: Descriptor | None
    where: Whereabouts | None
    """How to find the file again while ``descriptor`` is None; None for a file that is lost."""


class Places:
    """The absent files of one store."""

    def __init__(self, root: Descriptor, descriptors: Descriptors, identity: Identity) -> None:
        self._root: Descriptor | None = root
        self._root_path = b""
        self._descriptors = descriptors
        self._lock = descriptors.lock
        self._identity = identity
        self._mount_fd, self._mount = self._probe(root)
        self._file_systems: dict[int, bytes] = {}
        """By mount."""
        self._alike: dict[int, int] = {}
        """One object for each number of which there are few."""
        self._absent: dict[int, Absentee | set[Absentee]] = {}
        """By inode number.  Two devices may share one: then more is opened than need be."""
        self._going: list[int] = []
        """Inode numbers of files that are losing a name, once for each; _ANY for one that was not looked at.  Without
        the lock: whoever takes a name away first puts the number here and then looks into ``_absent``, whoever gives a
        descriptor up does it the other way round, so one of the two sees the other."""
        self._folders: WeakValueDictionary[bytes, _Folder] = WeakValueDictionary()
        self._moving = threading.Lock()
        """Held while a client renames a directory."""
        self._moves = 0
        """Odd while it is held, and never the same again."""

    @staticmethod
    def _probe(root: Descriptor) -> tuple[Descriptor | None, int]:
        """A descriptor for opening handles, and their mount; None if handles cannot be opened."""
        try:
            handle, mount = linux.name_to_handle(root)
            opened = Descriptor(os.open(linux.path_of(root), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            again = Descriptor(linux.open_by_handle(opened, handle, PATH_FLAGS))
            return (opened, mount) if os.path.samestat(os.fstat(again), os.fstat(root)) else (None, mount)
        except OSError:
            return None, 0

    def close(self) -> None:
        """End all lookups."""
        self._root = self._mount_fd = None

    def _top(self) -> Descriptor:
        """The root. Raises OSError(ESTALE) if all is closed."""
        if self._root is None:
            raise OSError(errno.ESTALE, "the export is closed")
        return self._root

    @property
    def by_handle(self) -> bool:
        """Whether files are found by their handles."""
        return self._mount_fd is not None

    def count(self) -> int:
        """How many files are absent."""
        return len(self._absent)

    # --- giving up descriptors --------------------------------------------------------------------------------

    def give_up(self, node: Absentee) -> Outcome:
        """Take ``node``'s descriptor from it if the file can be found again."""
        fd = node.descriptor
        if fd is None:
            return Outcome.GONE
        try:
            found = linux.identity(fd)
        except OSError:
            return Outcome.PINNED
        with self._lock:
            # From now on whoever removes a name of the file removes this entry, so the checks below stay valid.
            self._note(found.inode, node)
            moves = self._moves
        where = self._look(fd) if not self._is_going(found.inode) else None
        with self._lock:
            if not self._strike(found.inode, node) or node.pins or self._is_going(found.inode):
                return Outcome.BUSY
            if where is None:
                return Outcome.PINNED
            if moves != self._moves or moves & 1:
                if not where.openable:
                    return Outcome.BUSY
                where = where._replace(folder=None)
            node.where = where
            node.descriptor = None
            self._note(where.inode, node)
        return Outcome.GONE

    def lose(self, node: Absentee) -> None:
        """Take ``node``'s descriptor from it, though the file cannot be found again."""
        fd = node.descriptor  # closed when this returns, not with the lock held: closing may delete the file itself
        with self._lock:
            if fd is not None and not node.pins:
                node.where = None
                node.descriptor = None

    def forget(self, node: Absentee) -> None:
        """``node`` is gone; the cache knows already."""
        with self._lock:
            if node.descriptor is None and node.where is not None:
                self._strike(node.where.inode, node)

    def _look(self, fd: Descriptor) -> Whereabouts | None:
        """How the file of ``fd`` is found again; None if it cannot be. Asks only the kernel."""
        try:
            found = linux.identity(fd)
            path = self._path(fd)
            file_system = self._file_system(found.mount)
        except OSError:
            return None
        handle, mount = b"", 0
        if not file_system.startswith(_NO_LASTING_HANDLES):
            with contextlib.suppress(OSError):
                handle, mount = linux.name_to_handle(fd)
        openable = bool(handle) and self._mount_fd is not None and mount == self._mount
        if not found.links or path in (b"", _DELETED):
            path = b""
            if not found.links or not openable:
                return None
        device, type_ = (self._alike.setdefault(value, value) for value in (found.device, found.type))
        born = -1 if handle or file_system.startswith(_NO_LASTING_BIRTH) else found.born
        if not path:
            return Whereabouts(device, found.inode, type_, born, handle, openable, None, b"")
        above, _slash, name = path.rpartition(b"/")
        with self._lock:
            folder = self._folders.get(above)
            if folder is None:
                folder = self._folders[above] = _Folder(above)
        return Whereabouts(device, found.inode, type_, born, handle, openable, folder, name)

    def _file_system(self, mount: int) -> bytes:
        found = self._file_systems.get(mount)
        if found is None:
            if len(self._file_systems) >= _MOUNTS:
                self._file_systems.clear()
            found = self._file_systems[mount] = linux.file_system_of(mount)
        return found

    def _path(self, fd: Descriptor) -> bytes:
        """The path of the file of ``fd`` from the root; empty if it has none, _DELETED if it was deleted."""
        try:
            path = os.readlink(linux.path_of(fd))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return b""
            raise
        root = self._root_path
        if not root or not path.startswith(root):
            top = self._top()
            root = self._root_path = os.readlink(linux.path_of(top)).rstrip(b"/") + b"/"
            if not path.startswith(root):
                return b""
        if path.endswith(_DELETED) and not self._is_there(path[len(root) :], fd):
            return _DELETED
        return path[len(root) :]

    def _is_there(self, path: bytes, fd: Descriptor) -> bool:
        """Whether a file that seems deleted only has a name that looks so."""
        try:
            return os.path.samestat(os.stat(path, dir_fd=self._top(), follow_symlinks=False), os.fstat(fd))
        except OSError:
            return False

    # --- reopening -------------------------------------------------------------------------------

    def find(self, node: Absentee) -> Descriptor:
        """``node``'s descriptor, opened again if need be.

        Raises OSError: ESTALE if the file no longer exists or cannot be found, EMFILE if descriptors are short.
        """
        with self._lock:
            fd, where = node.descriptor, node.where
        if fd is not None:
            return fd
        fd = self._open(where)
        assert where is not None
        with self._lock:
            if node.descriptor is None:
                node.descriptor = fd
                self._strike(where.inode, node)
            fd = node.descriptor
        self._descriptors.cached[node] = None
        return fd

    def _open(self, where: Whereabouts | None) -> Descriptor:
        if where is None:
            raise OSError(errno.ESTALE, "given up for good")
        with self._identity.as_server():
            try:
                return self._open_once(where)
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
            with self._moving:  # a directory above it may just have been renamed
                return self._open_once(where)

    def _open_once(self, where: Whereabouts) -> Descriptor:
        """Try all ways. Raises OSError(ESTALE) if none leads to the file."""
        ways: list[Callable[[Whereabouts], int]] = [self._by_path] if where.folder is not None else []
        if where.openable:
            ways.insert(0 if where.type == S_IFDIR else 1, self._by_handle)
        failure = errno.ESTALE
        for way in ways:
            try:
                # At once with a number that may be kept, because the number shows whether descriptors are short.
                fd = Descriptor(self._descriptors.keep(way(where)))
            except OSError as error:
                if error.errno in _SHORT:
                    raise
                if error.errno not in _NOT_THERE and error.errno is not None:
                    failure = error.errno
                continue
            if self._is(fd, where):
                return fd
        raise OSError(failure, "the file cannot be found any more")

    def _by_path(self, where: Whereabouts) -> int:
        folder = where.folder.path if where.folder is not None else None
        if folder is None:
            raise OSError(errno.ESTALE, "another directory took its place")
        path = folder + b"/" + where.name if folder else where.name
        return linux.openat2(self._top(), path, PATH_FLAGS, CONFINED)

    def _by_handle(self, where: Whereabouts) -> int:
        mount_fd = self._mount_fd
        if mount_fd is None:
            raise OSError(errno.ESTALE, "the export is closed")
        return linux.open_by_handle(mount_fd, where.handle, PATH_FLAGS)

    @staticmethod
    def _is(fd: Descriptor, where: Whereabouts) -> bool:
        found = linux.identity(fd)
        if (found.device, found.inode, found.type) != where[:3] or where.born not in (-1, found.born):
            return False
        try:
            return not where.handle or linux.name_to_handle(fd)[0] == where.handle
        except OSError:
            return False

    # --- removing names -----------------------------------------------------------------------------

    def change(self, act: Callable[[], None], directory: Descriptor, name: bytes) -> None:
        """Run ``act``, which removes ``name`` in ``directory`` from its file.

        The file keeps a descriptor for every fid that needs one.
        """
        if not self._at_once(act):
            self._change(lambda _found: act(), (directory, name))

    def rename(
        self, act: Callable[[], None], directory: Descriptor, name: bytes, new_directory: Descriptor, new_name: bytes
    ) -> None:
        """Run ``act``, which renames ``name``, and removes ``new_name`` from its file."""
        if self._at_once(act):
            return
        old, new = (directory, name), (new_directory, new_name)

        def move(found: list[os.stat_result | None]) -> None:
            if found[0] is not None and stat.S_ISDIR(found[0].st_mode):
                self._move(old, new, act)
            else:
                act()

        self._change(move, old, new)

    def _at_once(self, act: Callable[[], None]) -> bool:
        """Run ``act`` while no descriptors are being given up; none is until it is over."""
        self._going.append(_ANY)
        try:
            if self._descriptors.shrinking:
                return False
            act()
            return True
        finally:
            self._going.remove(_ANY)

    def _is_going(self, inode: int) -> bool:
        return inode in self._going or _ANY in self._going

    def _change(self, act: Callable[[list[os.stat_result | None]], None], *names: tuple[Descriptor, bytes]) -> None:
        """Run ``act`` with the stat of the files that hold ``names`` and are about to lose them."""
        found = [_found(*name) for name in names]
        while True:
            inodes = [one.st_ino for one in found if one is not None]
            self._going.extend(inodes)
            try:
                for inode in inodes:
                    self._recall(inode)
                before, found = found, [_found(*name) for name in names]
                if all(map(_same, before, found)):
                    return act(found)
            finally:
                for inode in inodes:
                    self._going.remove(inode)

    def _recall(self, inode: int) -> None:
        """Open what is absent of the file."""
        if inode in self._absent:
            with self._lock:
                noted = self._absent.pop(inode, None)
            if noted is not None:
                self._bring_back(list(noted) if isinstance(noted, set) else [noted])

    def _bring_back(self, nodes: list[Absentee]) -> None:
        """One descriptor for all nodes of one file."""
        opened: dict[Whereabouts, Descriptor | None] = {}
        for node in nodes:
            with self._lock:
                where = node.where if node.descriptor is None else None
            if where is None:
                continue  # it was only about to be given up
            same = where._replace(folder=None, name=b"", openable=False)
            if same not in opened:
                try:
                    opened[same] = self._open(where)
                except OSError:
                    opened[same] = None  # a lost file cannot be kept
            fd = opened[same]
            with self._lock:
                if node.descriptor is None and node.pins < RELEASED:
                    node.descriptor = fd
                    if fd is None:
                        self._note(where.inode, node)
                    else:
                        self._descriptors.cached[node] = None

    def _move(self, old: tuple[Descriptor, bytes], new: tuple[Descriptor, bytes], act: Callable[[], None]) -> None:
        """``act``, which renames a directory from ``old`` to ``new``; the recorded paths below it change, too."""
        with self._moving:
            with self._lock:
                self._moves += 1
            try:
                paths = [self._below(*place) for place in (old, new)]
                act()
                self._rename_folders(*paths)
            finally:
                with self._lock:
                    self._moves += 1

    def _below(self, directory: Descriptor, name: bytes) -> bytes | None:
        """The path of ``name`` in ``directory`` from the root, None when the kernel does not report it."""
        try:
            if os.path.samestat(os.fstat(directory), os.fstat(self._top())):
                return name
            above = self._path(directory)
        except OSError:
            return None
        return above + b"/" + name if above and above != _DELETED else None

    def _rename_folders(self, old: bytes | None, new: bytes | None) -> None:
        with self._lock:
            replaced, moved = (
                [
                    folder
                    for path, folder in self._folders.items()
                    if place is not None and (path == place or path.startswith(place + b"/"))
                ]
                for place in (new, old)
            )
            for folder in (*replaced, *moved):
                assert folder.path is not None
                del self._folders[folder.path]
            for folder in replaced:
                folder.path = None
            for folder in moved:
                if old is None or new is None or folder.path is None:
                    folder.path = None
                else:
                    folder.path = new + folder.path[len(old) :]
                    self._folders[folder.path] = folder

    # --- the index ---------------------------------------------------------------------------------

    def _note(self, inode: int, node: Absentee) -> None:
        """Record that ``node`` is absent, or about to be. Lock held."""
        noted = self._absent.get(inode)
        if noted is None or noted is node:
            self._absent[inode] = node
        elif isinstance(noted, set):
            noted.add(node)
        else:
            self._absent[inode] = {noted, node}

    def _strike(self, inode: int, node: Absentee) -> bool:
        """The opposite; returns whether it was recorded. Lock held."""
        noted = self._absent.get(inode)
        if noted is node:
            del self._absent[inode]
            return True
        if isinstance(noted, set) and node in noted:
            noted.discard(node)
            if not noted:
                del self._absent[inode]
            return True
        return False


def _found(directory: Descriptor, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None  # the act itself reports the error


def _same(one: os.stat_result | None, two: os.stat_result | None) -> bool:
    if one is None or two is None:
        return one is two
    return os.path.samestat(one, two)
