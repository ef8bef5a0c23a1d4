"""A vantage: a place from which system calls are made (inside, outside, control). All three have one API.

The API is the agent's table of ops: `inside.chmod("fred", 0o640)` performs the op `chmod` of
`guests/agent/payload/` there and returns its value or raises OSError. Its types are generated from the declarations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from conformance.checks import Soon, judged, report
from conformance.errors import Finding, SuiteError, Undrivable
from conformance.vfs.calls import Refusals, Soons, Starts
from conformance.vfs.pending import Late, OnTheWay, Pending
from conformance.vocabulary import Severity, errno_name
from guests.agent.link import AgentBug, AgentLink, CallError, CallHung, WorkerDied
from guests.agent.ops import Ops
from guests.agent.wire import CallAbsent, Descriptor


@dataclass(slots=True)
class CallRecord:
    """One call as it happened, for the evidence."""

    vantage: str
    process: str
    op: str
    args: tuple[Any, ...]
    kw: dict[str, Any]
    value: Any = None
    errno: int | None = None
    trouble: str | None = None
    seconds: float = 0.0
    number: int = 0
    """What the trace calls it; 0 where the calls of this vantage are not marked in the case's trace."""
    changed: tuple[str, ...] = ()
    uncompared: bool = False
    """Whether nothing was to be compared after it when it was made."""
    compared: bool = False
    """Whether what it changed was compared inside and outside directly afterwards."""
    seen: tuple[tuple[str, Any], ...] | None = None
    """What the calling process saw of the changed paths and their parents directly after the call, if it looked."""


@dataclass(slots=True)
class LooksAfter:
    """How the agent looks at what a call changed, in the same round trip: see `AgentLink.send`. Shared by a vantage's
    processes.
    """

    how: str = ""


_MAKES = os.O_CREAT | os.O_TRUNC | os.O_TMPFILE & ~os.O_DIRECTORY
"""Flags with which open(2) changes something."""

Observer = Callable[["Vantage", CallRecord], None]


_LISTINGS = frozenset({"listdir", "scandir", "entries", "getdents", "readdir_all"})
"""Ops whose value is a list of names, or of lists that begin with one."""


_ANSWERS_NOTHING = frozenset(
    {"access", "chdir", "close", "closedir", "faccessat2", "flock", "mprotect", "msync", "munmap", "posix_fadvise"}
    | {"rewinddir", "seekdir", "setlk", "sleep"}
)
"""Ops that have no value and change no attribute, so that the next call can be sent before their replies are there."""
_CHANGES_WITHOUT_ANSWER = frozenset(
    {"chmod", "chown", "create", "fchmod", "fchown", "fdatasync", "fsetxattr", "fsync", "ftruncate", "futimens"}
    | {"lchown", "link", "mkdir", "mkfifo", "mknod", "removexattr", "rename", "rmdir", "setxattr", "symlink"}
    | {"truncate", "unlink", "utimensat"}
)
"""The same of ops that change something, where nothing is compared after them."""


def _name_of(entry: str | list[Any]) -> str:
    return entry if isinstance(entry, str) else str(entry[0])


class Vantage(Ops):
    """System calls by name from one process at one place.

    `name` is inside, outside or control; `root` the directory relative names are taken below. Its methods are the
    agent's ops, and those declared here: `start` has the ops as calls that may block, `quietly` as the suite's own
    calls.
    """

    def __init__(
        self,
        name: str,
        agent: AgentLink,
        root: str,
        observer: Observer | None = None,
        process: str = "main",
        timeout: float = 30.0,
    ) -> None:
        self.name, self.agent, self.root, self.process, self.timeout = name, agent, root, process, timeout
        self.observer = observer
        self.before: Callable[[Vantage], None] = lambda _: None
        """Called before each call is sent, the suite's own ones as well."""
        self.on_the_way: OnTheWay | None = None
        """Where calls are kept whose replies the next call does not need; None: each is waited for."""
        self.only_uid: int | None = None
        """The one user whom the mount serves (mount option access=UID), or as whom it serves all (access=any)."""
        self.looks = LooksAfter()
        self.marked = False
        """Whether the case's trace names the calls of this vantage."""
        self.hides: Callable[[str], bool] = lambda _: False
        """Names that listings leave out: what a security model of the target keeps beside the guest's files."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name == "open" or name in _ANSWERS_NOTHING or name in _CHANGES_WITHOUT_ANSWER:
            return partial(self._sent, name)
        return super().__getattr__(name)

    def perform(self, op: str, *args: Any, **kw: Any) -> Any:
        """Make the call `op`, and wait for it whatever it is. Raises OSError (the call's errno), Finding (hung,
        killed), SuiteError; Late for an earlier call that was not waited for.
        """
        record = CallRecord(self.name, self.process, op, args, kw)
        return self.finish(self.send(record, look=self.looks.how, marked=self.marked), record, self.timeout)

    def _sent(self, op: str, *args: Any, **kw: Any) -> Any:
        """The same, but a call whose reply the next one does not need goes with that in one round trip: one that has no
        value and after which nothing is compared, or such an open(2). If it fails, the next call that is waited for
        raises Late.
        """
        way, opens = self.on_the_way, op == "open"
        only_opens = opens and not (args[1] if len(args) > 1 else kw.get("flags", 0)) & _MAKES
        if way is None or (self.looks.how and not only_opens and op not in _ANSWERS_NOTHING):
            return self.perform(op, *args, **kw)
        made: list[Descriptor] = []

        def arrived(value: Any) -> None:
            for descriptor in made:
                descriptor.opened = value

        number = self._send_ahead(way, op, args, kw, arrived, named=opens)
        if not opens:
            return None
        made.append(Descriptor(number, self.process, way.wait))
        return made[0]

    def _send_ahead(
        self,
        way: OnTheWay,
        op: str,
        args: tuple[Any, ...],
        kw: dict[str, Any],
        arrived: Callable[[Any], None],
        *,
        named: bool = False,
    ) -> int:
        """Send the call without waiting; `arrived` gets its value when it is there. Returns the call's number."""
        record = CallRecord(self.name, self.process, op, args, kw, uncompared=not self.looks.how)
        number = self.send(record, look=self.looks.how, marked=self.marked, named=named, held=True)

        def finish() -> None:
            try:
                value = self.finish(number, record, self.timeout)
            except OSError as error:
                raise Late(error) from error
            arrived(value)

        way.add(self.agent, self.process, finish)
        return number

    def send(self, record: CallRecord, **how: Any) -> int:
        """Send a call as `AgentLink.send` does; returns its number."""
        self.before(self)
        used = [*record.args, *record.kw.values()]
        if self.on_the_way is not None and any(isinstance(one, Descriptor) and self._unknown(one) for one in used):
            self.on_the_way.wait()
        return self.agent.send(record.op, record.args, record.kw, self.process, self.timeout, **how)

    def _unknown(self, one: Descriptor) -> bool:
        """Whether this process cannot know it: another one is opening the file."""
        return one.opened is None and one.process != self.process

    def finish(self, number: int, record: CallRecord, timeout: float) -> Any:
        """Wait for a call's reply, record it and notify the observer."""
        record.number = number if self.marked else 0
        try:
            reply = self.agent.receive(number, timeout)
            record.value, record.changed, record.seconds = reply.value, reply.changed, reply.seconds
            record.seen = reply.seen
            if record.op in _LISTINGS:
                record.value = [entry for entry in reply.value if not self.hides(_name_of(entry))]
            return record.value
        except CallError as e:
            record.errno, record.changed, record.seconds, record.seen = e.errno, e.changed, e.seconds, e.seen
            e.about = {**self._about(record), "spelled": self._spell(record)}
            raise
        except CallHung as e:
            record.trouble = "hung"
            raise Finding(f"{self._spell(record)} hung: {e}", "hung", self._about(record)) from e
        except CallAbsent as e:
            record.trouble = "absent"
            raise Undrivable(f"{self._spell(record)}: {e}") from e
        except WorkerDied as e:
            record.trouble = str(e)
            raise Finding(f"{self._spell(record)}: {e}", "killed", {**self._about(record), "seen": e}) from e
        except AgentBug as e:
            raise SuiteError(f"{self._spell(record)}: {e}") from e
        finally:
            if self.observer is not None:
                self.observer(self, record)

    @property
    def quietly(self) -> Ops:
        """Calls that are the suite's own (set-up, comparison), not the case's: no observer sees them.

        They raise OSError (the call's errno); Finding if they hang or are killed, except outside, where that is not the
        target's fault.
        """
        return _Quietly(self)

    @property
    def quietly_start(self) -> Starts:
        """Such calls of the suite's own that are waited for later."""
        return _QuietlyStarted(self)

    @property
    def quietly_then(self) -> Starts:
        """The same, each made when all earlier ones have ended, whatever process makes them."""
        return _QuietlyStarted(self, after=True)

    @property
    def start(self) -> Starts:
        """Calls that may block: each is begun, and the Pending that is returned waits for it."""
        return _Started(self)

    @property
    def soon(self) -> Soons:
        """Calls whose values are only checked: `equal("content", v.soon.slurp("fred"), b"abc")` goes with the next
        call in one round trip. For calls that change nothing; one that fails raises Late as others do.
        """
        return _Soon(self)

    @property
    def then(self) -> Starts:
        """Calls that are sent without waiting, in one round trip with those that follow; each is made when all earlier
        ones have ended, whatever process makes them. Nothing is compared between them.
        """
        return _Started(self, after=True)

    def spawn(
        self,
        process: str,
        uid: int | None = None,
        gid: int | None = None,
        groups: Iterable[int] = (),
        umask: int = 0o022,
    ) -> Vantage:
        """A further process at the same place, as another user if `uid` is given (gid defaults to uid)."""
        if self.only_uid is not None and uid not in (None, self.only_uid):
            raise Undrivable(f"mount option access lets only user {self.only_uid} act on the share")
        spec: dict[str, Any] = {"root": self.root, "umask": umask}
        if uid is not None:
            spec |= {"uid": uid, "gid": uid if gid is None else gid, "groups": list(groups)}
        if self.on_the_way is not None:
            self.on_the_way.wait_for(self.agent, process)
        self.agent.spawn(process, **spec)
        spawned = Vantage(self.name, self.agent, self.root, self.observer, process, self.timeout)
        spawned.hides, spawned.marked, spawned.looks = self.hides, self.marked, self.looks
        spawned.before, spawned.on_the_way = self.before, self.on_the_way
        return spawned

    def kill(self) -> None:
        """End this vantage's process with SIGKILL (descriptors and locks go with it)."""
        if self.on_the_way is not None:
            self.on_the_way.wait_for(self.agent, self.process)
        self.agent.kill(self.process)

    def refuses(self, *allowed: int, because: str = "", another: Severity | None = None) -> Refusals:
        """`v.refuses(ENOENT).open("x")`: the call must fail with one of `allowed`.

        Any other result is a finding, and the case continues. Returns the errno that was seen, 0 if the call succeeded.
        `because` is the source of an unusual errno. `another` is the severity of a refusal with another errno, for a
        case that demands a refusal when no specification names the errno.
        """
        return _Refused(self, allowed, because, another)

    def _about(self, record: CallRecord) -> dict[str, str]:
        """The values of a call's finding, which profiles can match."""
        arguments = [repr(a)[:60] for a in record.args] + [f"{k}={v!r}"[:60] for k, v in record.kw.items()]
        return {
            "call": record.op,
            "arguments": ", ".join(arguments),
            "vantage": record.vantage,
            "process": record.process,
        }

    def _spell(self, record: CallRecord) -> str:
        args = [repr(a)[:60] for a in record.args] + [f"{k}={v!r}"[:60] for k, v in record.kw.items()]
        return f"{self.name}: {record.op}({', '.join(args)})"


class _QuietlyStarted(Starts):
    """What `Vantage.quietly_start` and `quietly_then` return."""

    def __init__(self, vantage: Vantage, *, after: bool = False) -> None:
        self._vantage, self._after = vantage, after

    def perform(self, op: str, *args: Any, **kw: Any) -> Pending[Any]:
        vantage = self._vantage
        record = CallRecord(vantage.name, vantage.process, op, args, kw)
        number = vantage.send(record, after=self._after)
        return Pending(partial(vantage.agent.ready, number), partial(self._finish, number, record))

    def _finish(self, number: int, record: CallRecord) -> Any:
        try:
            return self._received(number, record)
        except (OSError, Finding):
            if self._vantage.on_the_way is not None:
                self._vantage.on_the_way.wait()  # if a call of the case failed before it, that is the finding
            raise

    def _received(self, number: int, record: CallRecord) -> Any:
        vantage = self._vantage
        try:
            return vantage.agent.receive(number, vantage.timeout).value
        except CallError as e:
            e.about = {**vantage._about(record), "spelled": vantage._spell(record)}
            raise
        except CallAbsent as e:
            raise Undrivable(f"{vantage._spell(record)}: {e}") from e
        except (CallHung, WorkerDied) as e:
            if vantage.name != "inside":
                raise
            code, how = ("hung", "hung: ") if isinstance(e, CallHung) else ("killed", "")
            text = f"the suite's own {vantage._spell(record)} {how}{e}"
            raise Finding(text, code, {**vantage._about(record), "seen": e}) from e


class _Quietly(Ops):
    """What `Vantage.quietly` returns."""

    def __init__(self, vantage: Vantage) -> None:
        self._vantage = vantage

    def perform(self, op: str, *args: Any, **kw: Any) -> Any:
        return self._vantage.quietly_start.perform(op, *args, **kw).result()


class _Started(Starts):
    """What `Vantage.start` returns."""

    def __init__(self, vantage: Vantage, *, after: bool = False) -> None:
        self._vantage, self._after = vantage, after

    def perform(self, op: str, *args: Any, **kw: Any) -> Pending[Any]:
        vantage = self._vantage
        record = CallRecord(vantage.name, vantage.process, op, args, kw)
        number = vantage.send(record, marked=vantage.marked, after=self._after)

        def ready(within: float) -> bool:
            if vantage.on_the_way is not None:
                vantage.on_the_way.wait()  # what was called before it is asked has been made
            return vantage.agent.ready(number, within)

        return Pending(ready, partial(vantage.finish, number, record, vantage.timeout))


class _Soon(Soons):
    """What `Vantage.soon` returns."""

    def __init__(self, vantage: Vantage) -> None:
        self._vantage = vantage

    def perform(self, op: str, *args: Any, **kw: Any) -> Soon[Any]:
        coming, vantage = Soon[Any](), self._vantage
        if vantage.on_the_way is None:
            coming.arrived(vantage.perform(op, *args, **kw))
        else:
            vantage._send_ahead(vantage.on_the_way, op, args, kw, coming.arrived)
        return coming


class _Refused(Refusals):
    """What `Vantage.refuses` returns."""

    def __init__(self, vantage: Vantage, allowed: tuple[int, ...], because: str, another: Severity | None) -> None:
        self._vantage, self._allowed, self._because, self._another = vantage, allowed, because, another

    def perform(self, op: str, *args: Any, **kw: Any) -> int:
        seen, shown = 0, ""
        judged()
        try:
            value = self._vantage.perform(op, *args, **kw)
            shown = f"succeeded with {value!r:.80}"
        except OSError as e:
            seen = e.errno or 0
            shown = f"failed with {errno_name(seen)}"
        if seen not in self._allowed:
            self._report(CallRecord(self._vantage.name, self._vantage.process, op, args, kw), seen, shown)
        return seen

    def _report(self, record: CallRecord, seen: int, shown: str) -> None:
        wanted = " or ".join(errno_name(e) for e in self._allowed)
        why = f" ({self._because})" if self._because else ""
        about = self._vantage._about(record)
        text = f"{self._vantage._spell(record)} {shown}, expected {wanted}{why}"
        values = {**about, "seen": errno_name(seen) if seen else "success", "expected": wanted}
        report(Finding(text, "errno", values, self._another if seen else None))
