"""The share as a case sees it: three vantages, and comparisons after every call that changes something."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Protocol

from conformance.case import KEPT, Case
from conformance.checks import Octal, judged, report_all
from conformance.comparison import Comparison, FieldComparison
from conformance.errors import Finding, Undrivable
from conformance.vfs.deployment import Device, Outages
from conformance.vfs.look import BothSides, Look, Mounted, T, Tolerated
from conformance.vfs.mount_options import MountOptions
from conformance.vfs.pending import OnTheWay
from conformance.vfs.vantage import CallRecord, Vantage
from conformance.vocabulary import errno_name

_SHOWN = 120
"""Characters of a value that a finding shows."""


_REFUSED = frozenset({errno.EINVAL, errno.ENAMETOOLONG, errno.EOPNOTSUPP, errno.EOVERFLOW})
_MOVING = 5
"""Looks at statvfs: on a file system that others write, too, counts go up and down between two of them."""


@contextmanager
def preparing(what: str) -> Iterator[None]:
    """Undrivable where the exported file system cannot have what a call outside is to make: no fault of the target's.

    Source: xfs, whose symbolic links hold 1,024 bytes and whose major numbers 9 bits (sysv_valid_dev, linux/kdev_t.h).
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise Undrivable(f"the exported file system refuses {what}: {errno_name(error.errno)}") from None


class FurtherShares(Protocol):
    """Where a case's further shares come from (`conformance.vfs.extra_shares`)."""

    def beside(self, parent: Share, number: int, mount: MountOptions, *, keep: bool = False) -> Share:
        """A further share of the same guest; with `keep` the case's directory there as it is."""

    def source(self, number: int) -> tuple[str, str]:
        """How to mount it: mount(2)'s source, and the options that name the transport."""

    @property
    def outages(self) -> Outages:
        """How to take the server or the device of one away."""

    def another(self, parent: Share, device: Device, mount: MountOptions) -> Share:
        """A share with another device."""


class Share(BothSides):
    """One case's directory on the share.

    `inside`, `outside` and `control` make calls; relative names are taken below the case's own directory. After every
    call that changes something, inside or outside, the changed paths and their parents are compared on both sides; each
    field that differs without a reason becomes a finding when the case ends. `stat`, `content`, `directory` and the
    like look at both sides; `same` demands that a look agrees. With only one side, the control file system or a share
    that is not visible outside (`alone`), nothing is compared.
    """

    def __init__(
        self, case: Case, mounted: Mounted, further: FurtherShares | None = None, parent: Share | None = None
    ) -> None:
        super().__init__(mounted, [] if parent is None else parent.calls)
        self.case = case
        self.comparisons: list[Comparison[Any]] = [] if parent is None else parent.comparisons
        self._further = further
        self._comparing = True
        self._reported: set[tuple[str, str, str]] = set() if parent is None else parent._reported
        self._on_the_way: OnTheWay = OnTheWay() if parent is None else parent._on_the_way
        for vantage in (self.inside, self.outside, self.control):
            vantage.observer, vantage.before = self._observe, self._before
        if case.layer == "vfs":  # in other layers cases act on the host by other ways than the agent
            self.inside.on_the_way = self._on_the_way
        # the trace of a second machine is read separately
        if parent is None:
            self.inside.marked = mounted.traced
        else:
            self.inside.marked = parent.inside.marked and parent.inside.agent is self.inside.agent
        self.inside.only_uid = None if self.on_control else self.mount.only_uid
        self._looking(True)

    # ---- assertions: each field that differs is a finding

    def same(self, look: Look[T], tolerate: Tolerated | None = None) -> T:
        """Both sides showed the same. Returns what inside showed. A file that is missing on either side ends the case.

        With only one side nothing is compared: a case about the agreement of both declares that (`about="agreement"`).
        """
        self._on_the_way.wait()
        comparison = look.compare(tolerate or {})
        for _ in range(_MOVING - 1):
            if comparison.ok or look.again is None:
                break
            look = look.again()
            comparison = look.compare(tolerate or {})
        if not self.alone:  # then there was nothing to compare with
            comparison = replace(comparison, after_call=comparison.after_call or len(self.calls))
            self.comparisons.append(comparison)
            report_all(self._differences(comparison))
        if look.missing is not None:
            raise look.missing
        return look.inside

    def gone(self, path: str) -> None:
        """No side has `path` any more."""
        judged()
        found = []
        for vantage in (self.inside,) if self.alone else (self.inside, self.outside):
            seen = vantage.quietly.look([path])[0]
            if seen != errno.ENOENT:
                how = errno_name(seen) if isinstance(seen, int) else "success"
                values = {"path": path, "vantage": vantage.name, "call": "lstat", "seen": how, "expected": "ENOENT"}
                found.append(Finding(f"{path!r} is still there {vantage.name} (lstat: {how})", "exists", values))
        report_all(found)

    def without_comparison(self) -> _Paused:
        """`with share.without_comparison():` for calls whose effect the two sides cannot show alike."""
        return _Paused(self)

    def need(self, feature: str, why: str) -> None:
        """End the case as undrivable unless the deployment has `feature`."""
        if feature not in self.mounted.features:
            raise Undrivable(f"{feature}: {why}")

    # ---- host actions that some security models cannot show

    def host_sets_mode_and_owner(self) -> None:
        """Undrivable if the host's chmod(2) and chown(2) do not show inside: mapped security models."""
        if not self._comparer.judges("mode"):
            raise Undrivable("the security model keeps the guest's modes and owners apart from the host's")

    def host_symlink(self, target: str, name: str) -> None:
        """symlink(2) on the host. Undrivable if a link of the host is none inside: mapped security models."""
        if not self.host_links:
            raise Undrivable("the security model keeps symbolic links as plain files on the host")
        self.outside.symlink(target, name)

    @property
    def host_links(self) -> bool:
        """Whether a symbolic link of the host is one inside: not with mapped security models."""
        return self._comparer.judges("target")

    def prepared_symlink(self, target: str, name: str) -> None:
        """A symbolic link as preparation: made on the host, which is faster, or inside if it must be."""
        if self.host_links and not self.alone:
            with preparing(f"a symbolic link with a text of {len(target)} bytes"):
                self.outside.symlink(target, name)
        else:
            self.inside.symlink(target, name)

    # ---- further shares

    def beside(self, number: int, mount: MountOptions | None = None, *, keep: bool = False) -> Share:
        """A further share (1 to 3) of the same guest, mounted like this one or with `mount`, with an empty directory.

        A second call in one case mounts it if it is not, and with `keep` leaves its files. Call it before opening
        files.
        """
        if self._further is None:
            raise Undrivable("this file system has no further share beside it")
        self._on_the_way.wait()
        return self._further.beside(self, number, mount or self.mount, keep=keep)

    def source(self, number: int) -> tuple[str, str]:
        """How to mount a further share (1 to 3): mount(2)'s source, and the options that name the transport."""
        if self._further is None:
            raise Undrivable("this file system has no further share beside it")
        return self._further.source(number)

    @property
    def outages(self) -> Outages:
        """How to take the server or the device of a further share away."""
        if self._further is None:
            raise Undrivable("this file system has no further share beside it")
        return self._further.outages

    def another(self, device: Device, mount: MountOptions | None = None) -> Share:
        """A share with that device, in a second machine."""
        if self._further is None:
            raise Undrivable("this file system has no device")
        self._on_the_way.wait()
        return self._further.another(self, device, mount or self.mount)

    # ---- what happens after every call

    def _looking(self, on: bool) -> None:
        """Compare after every call from now on, or not."""
        self._comparing = on
        if self.inside.process == "main" and not self._one_sided:
            self.inside.looks.how = ("marked" if self.mounted.traced else "plain") if on else ""

    def settle(self) -> None:
        """Report each field in which the comparisons after calls found a difference; once, however often it was seen.

        The further shares of the case have the same list of comparisons.
        """
        if self._on_the_way.in_order and not self.on_control:
            self.inside.agent.send_end()
        self._on_the_way.wait()
        report_all([found for comparison in self.comparisons for found in self._differences(comparison)])

    def _differences(self, comparison: Comparison[Any]) -> list[Finding]:
        """A finding for each field of the comparison that differs and has not been reported for this path."""
        found = []
        for field in comparison.fields:
            key = (comparison.path, _code(comparison.kind, field), field.name)
            if not field.ok and key not in self._reported:
                self._reported.add(key)
                found.append(self._finding(comparison, field))
        return found

    def _finding(self, comparison: Comparison[Any], field: FieldComparison[Any]) -> Finding:
        after, code = self._spell(comparison.after_call), _code(comparison.kind, field)
        what = plain_field(field.name)
        inside, outside = (_short(Octal(v) if what == "mode" else v) for v in (field.inside, field.outside))
        if code == "exists":
            text = f"{comparison.path!r} inside: {field.inside}, outside: {field.outside}"
        else:
            text = f"{what} of {comparison.path!r}: inside {inside}, outside {outside}"
        values = {
            "path": comparison.path,
            "field": what,
            "kind": comparison.kind,
            "inside": inside,
            "outside": outside,
            "after": after,
        }
        return Finding(f"{text} ({comparison.kind} after {after})", code, values)

    def _before(self, vantage: Vantage) -> None:
        """Wait for calls and looks that the call could overtake."""
        self._on_the_way.wait_before(vantage.agent, vantage.process)

    def _observe(self, vantage: Vantage, record: CallRecord) -> None:
        self._on_the_way.wait()
        if self.mounted.label:
            record.vantage = f"{vantage.name} ({self.mounted.label})"
        self.calls.append(record)
        if self._one_sided or record.trouble or vantage.name == "control":
            return
        if record.uncompared or not self._comparing:
            return
        if vantage.name == "outside" and self.mount.cache in KEPT:
            return  # the guest sees the host's change only when it asks again: no finding
        paths: dict[str, None] = {}
        for changed in record.changed:
            relative = self._relative(vantage, changed)
            if relative is not None:
                paths[relative] = None
                parent = posixpath.dirname(relative.rstrip("/"))
                paths[parent or "."] = None
        if paths:
            record.compared = True
            seen = dict(record.seen or ())
            self._look(list(paths), seen, wait=vantage.name != "outside")
            self._last_seen = (self.inside.agent.at_rest if seen else 0), seen

    def _look(self, paths: list[str], already: dict[str, Any], *, wait: bool) -> None:
        """Compare both sides; without `wait`, what inside shows is judged when its answer is there."""
        after = len(self.calls)
        if wait:
            self._judge_each(paths, *self._seen(paths, "lstat", already), after)
            return
        coming = self.inside.quietly_start.look(paths, "lstat", mark=self.mounted.traced)
        outside = self.outside.quietly.look(paths, "lstat")

        def judge() -> None:
            self._judge_each(paths, *self._settled(paths, "lstat", coming.result(), outside), after)

        self._on_the_way.add(self.inside.agent, "main", judge)

    def _judge_each(self, paths: list[str], inside: list[Any], outside: list[Any], after: int) -> None:
        for path, ours, theirs in zip(paths, inside, outside, strict=True):
            self.comparisons.append(self._judge(path, ours, theirs, "stat", {}, after))

    def _relative(self, vantage: Vantage, path: str) -> str | None:
        root = vantage.root.rstrip("/")
        if path == root:
            return "."
        return path[len(root) + 1 :] if path.startswith(root + "/") else None

    def _spell(self, number: int) -> str:
        if not 0 < number <= len(self.calls):
            return "no call"
        record = self.calls[number - 1]
        return f"call {number}, {record.vantage} {record.op}{record.args!r:.80}"


def plain_field(name: str) -> str:
    """st_mtime_ns as mtime_ns; names of other kinds stay."""
    return name.removeprefix("stx_").removeprefix("st_").removeprefix("f_")


def _code(kind: str, field: FieldComparison[Any]) -> str:
    """The finding's code for a field that differs."""
    if kind in ("content", "xattr"):
        return kind
    if field.name in ("names", "exists"):
        return field.name
    if kind == "readdir":
        return f"field:{field.name.rpartition(' ')[2]}"  # 'fred' type, 'fred' ino
    return f"field:{plain_field(field.name)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 24]}... ({len(text)} characters)"


class _Paused:
    def __init__(self, share: Share) -> None:
        self._share = share

    def __enter__(self) -> None:
        self._share._looking(False)

    def __exit__(self, *_: object) -> None:
        self._share._looking(True)
