"""The identity with which the server acts on the host for a caller.

The rule of this module: identities belong to threads (setfsuid(2), setgroups(2) and capset(2) act on the
calling one), so every operation of a store names its caller, and the thread is switched only when it last
served another.

Three policies:

``client`` (a server run as root; the default) The guest's kernel has already checked permissions, and only it knows its
users' groups; the server obeys, like QEMU's passthrough, so a guest's root can do what root can. Unlike QEMU the server
*is* the caller meanwhile: fsuid and fsgid are the caller's and only the capabilities to overrule permissions are kept.
A new file thus belongs to the caller from its first moment (QEMU creates as root and then changes the owner, and in
between a setuid file is root's), and CAP_FSETID is dropped for writing, so that a write by a user clears the setuid bit
as it does on a local file system.

``user`` (a server run as root, ``--identity user``) As in diod: the caller has the host's rights of that uid, with the
groups of the host's user database.

none of these (a server not run as root) Everything is done as the server's own user, who owns new files.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

from reference_server import linux
from reference_server.storage import Caller


class Identity(Protocol):
    """How a thread takes a caller's identity."""

    def use(self, caller: Caller, gid: int | None = None) -> None:
        """Act for ``caller`` from now on; new files get the group ``gid``."""

    def use_for_writing(self, caller: Caller, gid: int) -> None:
        """As ``use``, for writing data to a file of group ``gid`` that is already open."""

    def as_server(self) -> AbstractContextManager[None]:
        """Act with the server's own rights for a ``with`` block, then as before."""


_UNCHANGED = nullcontext()


class Unchanged(Identity):
    """The server's own identity, always."""

    def use(self, caller: Caller, gid: int | None = None) -> None:
        """Nothing to do."""

    def use_for_writing(self, caller: Caller, gid: int) -> None:
        """Nothing to do."""

    def as_server(self) -> AbstractContextManager[None]:
        return _UNCHANGED


class _ThreadState(threading.local):
    """The calling thread's current identity, shared by all stores of the process."""

    policy: object = None
    """Who set the rest.  A new thread begins with the identity of the one that started it, so what stands here is
    true only once a policy has entered."""
    uid = 0
    gid = 0
    groups: tuple[int, ...] | None = None
    whole = True
    """Whether CAP_FSETID is effective."""


_thread = _ThreadState()

_UNSET = 0xFFFFFFFF
"""(gid_t)-1: the request names no group."""


class TrustClient(Identity):
    """Policy ``client``."""

    def __init__(self) -> None:
        self._permitted = linux.permitted_capabilities()

    def use(self, caller: Caller, gid: int | None = None) -> None:
        """Become ``caller``, keeping every capability."""
        thread = _thread
        if thread.policy is not self:
            _enter(self, self._permitted)
        if thread.uid != caller.uid or not thread.whole:
            self._become(caller.uid, True)
        if gid is not None and thread.gid != gid:
            _set_gid(caller.gid if gid == _UNSET else gid)

    def use_for_writing(self, caller: Caller, gid: int) -> None:
        """Become ``caller`` without CAP_FSETID, unless it is root.

        Only the client knows its users' groups, so a caller counts as a member of the file's group: a write by a member
        leaves S_ISGID on a file that its group may not execute, where Linux since 6.2 takes it from others' writes.
        """
        thread = _thread
        whole = caller.uid == 0
        if thread.policy is not self:
            _enter(self, self._permitted)
        if thread.uid != caller.uid or thread.whole != whole:
            self._become(caller.uid, whole)
        if not whole and thread.gid != gid:
            _set_gid(gid)

    def as_server(self) -> AbstractContextManager[None]:
        """Its capabilities are all there, whoever the caller."""
        if _thread.policy is not self:
            _enter(self, self._permitted)
        return _UNCHANGED

    def _become(self, uid: int, whole: bool) -> None:
        _set_uid(uid)
        # Leaving uid 0 dropped the file system capabilities from the effective set (setfsuid(2)).
        effective = self._permitted if whole else self._permitted & ~linux.CAP_FSETID
        linux.set_effective_capabilities(effective, self._permitted)
        _thread.whole = whole


class AsUser(Identity):
    """Policy ``user``."""

    def __init__(self) -> None:
        self._permitted = linux.permitted_capabilities()

    def use(self, caller: Caller, gid: int | None = None) -> None:
        """Become ``caller`` with what the host allows it."""
        thread = _thread
        if thread.policy is not self:
            _enter(self, self._permitted)
        if thread.groups != caller.groups:
            linux.setgroups(caller.groups)
            thread.groups = caller.groups
        wanted = caller.gid if gid is None or gid == _UNSET else gid
        if thread.gid != wanted:
            _set_gid(wanted)
        if thread.uid != caller.uid:
            _set_uid(caller.uid)

    def use_for_writing(self, caller: Caller, gid: int) -> None:
        self.use(caller)

    @contextmanager
    def as_server(self) -> Iterator[None]:
        """Root with all capabilities."""
        thread = _thread
        entered = thread.policy is self
        uid, gid, groups = thread.uid, thread.gid, thread.groups
        _enter(self, self._permitted)
        try:
            yield
        finally:
            if entered:
                _set_gid(gid)
                _set_uid(uid)  # with root's uid the capabilities go
                thread.groups = groups  # untouched


def _enter(policy: Identity, permitted: int) -> None:
    """Make the calling thread root with all capabilities, and note that."""
    _set_uid(0)
    _set_gid(0)
    linux.set_effective_capabilities(permitted, permitted)
    _thread.policy, _thread.whole, _thread.groups = policy, True, None


def _set_uid(uid: int) -> None:
    if not linux.setfsuid(uid):
        raise PermissionError(1, "setfsuid refused")
    _thread.uid = uid


def _set_gid(gid: int) -> None:
    if not linux.setfsgid(gid):
        raise PermissionError(1, "setfsgid refused")
    _thread.gid = gid


POLICIES = ("client", "user")


def choose(policy: str) -> Identity:
    """The named policy where this process may change identities, else the server's own.

    Raises ValueError for a policy that does not exist.
    """
    if policy not in POLICIES:
        raise ValueError(f"no identity policy {policy!r}; there are {', '.join(POLICIES)}")
    if os.geteuid() != 0 or not _may_switch():
        return Unchanged()
    return TrustClient() if policy == "client" else AsUser()


def _may_switch() -> bool:
    """Tried on a separate thread, which then ends. A root without CAP_SETUID may not (containers)."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(linux.setfsuid(1) and linux.setfsgid(1)))
    thread.start()
    thread.join()
    return bool(found and found[0])
