"""Runs one case on one deployment and returns its outcome; mounts, restores and cleans up as needed."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from conformance.case import KEPT, Case
from conformance.checks import collecting, findings_of, raise_all
from conformance.errors import Finding, Findings, InfrastructureError, SuiteError, TargetDied, Undrivable, Unsupported
from conformance.evidence.models import CaseResult, Machine
from conformance.features import FEATURES
from conformance.ground import GroundLost
from conformance.profiles.model import Known, Setting, VersionOf
from conformance.run.controls import ControlMode, Controls
from conformance.run.evidence import case_result
from conformance.run.mounting import Unmountable
from conformance.run.tested import exported, machine_of, programs
from conformance.run.verdict import judge, not_in_older
from conformance.sut.parts.no_outside import Nowhere
from conformance.sut.spec import Target
from conformance.vfs.deployment import Deployment, MountFailed
from conformance.vfs.extra_shares import Further
from conformance.vfs.look import Mounted
from conformance.vfs.mount_options import DEFAULT, MountOptions, rules_of
from conformance.vfs.pending import Late
from conformance.vfs.share import Share
from conformance.vfs.trace import Crossed, parse
from conformance.vfs.vantage import Vantage
from guests.agent.link import CallHung, LinkLost, Unprepared
from guests.agent.wire import CallAbsent
from protocol.messages import BY_NAME

Body = Callable[[Share], None]


class Runner:
    """One worker's deployment: started once, mounted as cases request, restored when a case kills it."""

    def __init__(self, target: Target, deployment: Deployment, control: ControlMode, worker: str) -> None:
        self.target, self.deployment, self.worker = target, deployment, worker
        self._mounted: MountOptions | None = None
        self._mount_line = ""
        self._refused: dict[MountOptions, str] = {}
        self.unmountable = Unmountable()
        self._controls = Controls(control)
        self._control_shares: dict[str, Share] = {}
        """What the cases of this run did on the control file system, by the case's directory."""
        self._nowhere: Nowhere | None = None
        """Takes the place of the agent outside, where there is none."""
        self._spent_control: str | None = None
        """The directory of a case on the control file system that is to be removed when the next one begins."""
        self._versions: dict[VersionOf, str] | None = None
        self.broken: InfrastructureError | None = None
        self.machines: dict[str, Machine] = {}

    def run(
        self, case: Case, parameters: str, mount: MountOptions, body: Body
    ) -> tuple[CaseResult, BaseException | None]:
        """Run `body` as `case` on a share with that mount; returns its evidence, and what it raised.

        A case whose share could not be mounted is tried once more, on a fresh machine.
        """
        if self.broken is None:
            self._controls.begin(self.deployment)
        result, raised = self._once(case, parameters, mount, body, last=False)
        if isinstance(raised, MountFailed) and self.broken is None:
            result, raised = self._once(case, parameters, mount, body, last=True)
        return result, raised

    def _once(
        self, case: Case, parameters: str, mount: MountOptions, body: Body, *, last: bool
    ) -> tuple[CaseResult, BaseException | None]:
        begun, mark, spent, waits = time.monotonic(), self._mark(), self._guest_seconds(), self._round_trips()
        raised: BaseException | None = None
        crossed: Crossed | None = None
        control: Share | None = None
        share: Share | None = None
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", parameters)[:60]
        directory = f"{case.id}-{safe}" if safe else case.id
        further = Further(self.deployment, directory)
        known: Sequence[Known] = ()
        try:
            self._ready(case, mount)
            if case.control and self._controls.mode != "never":
                control = self._control(case, directory, mount, body)
            known = self.target.profile.known_failures(case.id, parameters, self._setting(mount))
            share = self._share(case, directory, mount, further, known)
            _judged(partial(self._bounded, body, share, case.seconds), share)
        except Exception as e:  # noqa: BLE001 - every end of a case is judged below
            raised = e.why if isinstance(e, Unprepared) else e
        lost = isinstance(raised, LinkLost)  # wait for the timeout of a silent agent only once
        if share is not None and not lost:
            crossed, failure, lost = self._crossed(further, case, mount, passed=raised is None)
            raised = raised or failure
        if share is not None and not lost and control is None and findings_of(raised) and case.control:
            control, raised = self._control_after(case, directory, mount, body, raised)
        raised, died = self._blamed(raised, further, charged=share is not None)
        failed = raised
        raised = self._after(share, further, raised, lost=lost or died)
        if last and isinstance(failed, MountFailed) and raised is failed:
            raised = self._unmounted(case, mount, failed, own=share is None)
        judgement = judge(
            case,
            raised,
            crossed,
            known,
            tuple(one for one in self.target.profile.unsupported if one.feature in {*case.needs, *BY_NAME}),
            share.calls if share else [],
            not_in_older(case, mount.version),
        )
        result = case_result(
            case,
            parameters,
            judgement,
            raised=raised,
            crossed=crossed,
            excerpts=self.deployment.excerpts(mark) if mark is not None else [],
            seconds=time.monotonic() - begun,
            worker=self.worker,
            machines=self._machines_of(further),
            mount=mount,
            mount_line=self._mount_line,
            share=share,
            control=control,
            guest_seconds=self._guest_seconds() - spent,
            round_trips=self._round_trips() - waits,
        )
        return result, raised

    def environment(self) -> dict[str, Any]:
        """The deployment's own description."""
        return self.deployment.environment()

    def captured(self) -> dict[str, Any]:
        """See CaseRunner."""
        seen = self.environment()
        self.machines[self.worker] = machine_of(seen)
        own, served = seen.get("argv", []), seen.get("server_argv", [])
        argv = {"device": served, "hypervisor": own} if served else {"device": own}
        there = exported(self.deployment.outside, self.deployment.outside_root)
        found: dict[str, Any] = {"exported": there} if there is not None else {}
        return found | {"programs": programs(argv, self.deployment.processes())}

    def _machines_of(self, further: Further) -> list[str]:
        """Names of the machines on which a case ran; a second machine is recorded when it is first used."""
        names = [self.worker, *(f"{self.worker} {label}" for label in further.machines)]
        for name, seen in zip(names[1:], further.machines.values(), strict=True):
            self.machines.setdefault(name, machine_of(seen))
        return names

    def _setting(self, mount: MountOptions) -> Setting:
        """The circumstances to compare with profile entries."""
        if self._versions is None and self.broken is None:
            seen = self.environment()
            self._versions = {
                "target": self.deployment.version,
                "kernel": str(seen.get("guest_kernel", "")),
                "hypervisor": str(seen.get("hypervisor", "")),
            }
        return Setting(str(mount), self.deployment.security_model, self._versions or {})

    def run_item(
        self, case: Case, parameters: str, function: Callable[..., None], arguments: dict[str, Any]
    ) -> tuple[CaseResult, BaseException | None]:
        """Run a case's function with its arguments, the share among them replaced by the real one."""
        mount = arguments.get("share", DEFAULT)
        if not isinstance(mount, MountOptions):
            raise SuiteError(f"{case.id}: its share fixture is not the suite's own")

        def body(share: Share) -> None:
            function(**{**arguments, "share": share})

        return self.run(case, parameters, mount, body)

    def stop(self) -> None:
        """End the deployment."""
        self.deployment.stop()

    def _guest_seconds(self) -> float:
        """Seconds that the agent inside has spent on calls so far; 0 if it never started."""
        inside = getattr(self.deployment, "inside", None)
        return inside.seconds if inside is not None else 0.0

    def _round_trips(self) -> int:
        """How often this host has waited for the agent inside so far; 0 if it never started."""
        inside = getattr(self.deployment, "inside", None)
        return inside.waits if inside is not None else 0

    def _mark(self) -> Any:
        with contextlib.suppress(InfrastructureError):
            return self.deployment.mark()
        return None

    def _ready(self, case: Case, mount: MountOptions) -> None:
        if self.broken is not None:
            raise self.broken
        if (short := self.deployment.without_room()) is not None:
            raise short
        self.deployment.keep_time()
        unsupported = {one.feature for one in self.target.profile.unsupported}
        for feature in case.needs:
            if feature not in FEATURES:
                raise SuiteError(f"{case.id} needs {feature!r}, which conformance/features.py does not know")
            if feature not in self.deployment.features and feature not in unsupported and feature not in OPTIMISTIC:
                raise Undrivable(FEATURES[feature])
        outside = getattr(self.deployment, "outside", None)
        self._nowhere = outside if isinstance(outside, Nowhere) else None
        if self._nowhere is not None and case.about == "agreement":
            raise Undrivable(self._nowhere.why)
        if mount.cache not in case.caches:
            raise Undrivable(f"does not apply to cache={mount.cache}, only to {', '.join(case.caches)}")
        if mount.version not in self.target.profile.dialects:
            raise Undrivable(f"the target declares that it does not speak {mount.version}")
        if mount in self._refused:
            raise Undrivable(self._refused[mount])
        if self.unmountable.known(mount):
            raise self.unmountable.outcome(case, mount)
        if self._mounted != mount:
            self._mounted = None
            try:
                self._mount_line = self.deployment.mount(mount)
            except Undrivable as e:
                self._refused[mount] = str(e)
                raise
            self._mounted = mount

    def _share(
        self,
        case: Case,
        directory: str,
        mount: MountOptions,
        further: Further | None = None,
        known: Sequence[Known] = (),
    ) -> Share:
        """The case's share, or instead the control file system, which has no further shares."""
        d, on_control = self.deployment, further is None
        inside_root = f"{d.control_root}/{directory}" if on_control else f"{d.inside_root}/{directory}"
        inside_link = d.control if on_control else d.inside
        outside_link = d.control if on_control else d.outside
        outside_root = inside_root if on_control else f"{d.outside_root}/{directory}"
        alone = self._nowhere is not None and not on_control
        try:
            if on_control:  # later requests go to the same agent, which serves them in order
                outside_link.post("fresh_root", outside_root)
            else:
                (inside_link if alone else outside_link).calls.fresh_root(inside_root if alone else outside_root)
        except OSError as e:  # the suite's own call, not the case's: never a finding
            raise InfrastructureError(f"the case's directory {outside_root} cannot be made: {e.strerror}") from e
        if not on_control:
            drop = mount.cache in KEPT and "guest-root" in d.features and " 9p " in self._mount_line
            inside_link.begin_case(inside_root, drop_caches=drop, remove=self._spent_control, trace=d.traced)
            self._spent_control = None
        comparer = d.comparer.also(rules_of(mount))
        mounted = Mounted(
            Vantage("inside", inside_link, inside_root),
            Vantage("outside", outside_link, outside_root),
            Vantage("control", d.control, f"{d.control_root}/{directory}"),
            mount,
            d.control_root if on_control else d.inside_root,
            d.control_root if on_control else d.outside_root,
            comparer.bare() if on_control else comparer,
            traced=d.traced and not on_control,
            features=d.features,
            sides="control" if on_control else "inside" if alone else "both",
            dialects=tuple(self.target.profile.dialects),
            host_mounts=None if on_control else d.host_mounts,
            declares=lambda finding: any(entry.covers(finding) for entry in known),
        )
        return Share(case, mounted, further)

    def _control(self, case: Case, directory: str, mount: MountOptions, body: Body) -> Share | None:
        """Run the case on the control file system; None if it is known to hold there.

        The result does not depend on how the share is mounted.
        """
        if directory in self._control_shares or self._controls.held(case, directory):
            return self._control_shares.get(directory)
        control = self._share(case, directory, mount)
        self._on_control(body, control)
        self._controls.remember(case, directory)
        self._control_shares[directory] = control
        return control

    def _control_after(
        self, case: Case, directory: str, mount: MountOptions, body: Body, raised: BaseException | None
    ) -> tuple[Share | None, BaseException | None]:
        """The same after a failure, if the control was not run before: a finding needs a fresh control run.

        Raises if the case fails on the control file system, too: then the case itself is wrong.
        """
        if self._controls.mode == "never":
            return None, raised
        control = None
        try:
            control = self._share(case, directory, mount)
            self._on_control(body, control)
            self._control_shares[directory] = control
        except SuiteError as error:
            return control, error
        except (OSError, InfrastructureError, CallHung, Unprepared):
            return None, raised
        return control, raised

    def _on_control(self, body: Body, control: Share) -> None:
        """The case must hold on a native file system of the same guest, or the case itself is wrong."""
        try:
            _judged(partial(body, control), control)
        except Unprepared as e:
            raise InfrastructureError(f"the case's directory {control.outside.root} cannot be made: {e.why}") from e
        except BaseException as e:
            with contextlib.suppress(OSError):  # a failed clean-up must not hide the failure
                self._tidy(control)
            if isinstance(e, Finding | OSError):
                raise SuiteError(f"the case fails on the control file system too: {e}") from e
            raise
        self.deployment.control.reap()
        self._spent_control = control.outside.root

    def _bounded(self, body: Body, share: Share, seconds: float) -> None:
        """Run it, its calls inside limited together: what the way to the guest takes is not the share's."""
        observe, spent = share.inside.observer, 0.0

        def watch(vantage: Vantage, record: Any) -> None:
            nonlocal spent
            if observe is not None:
                observe(vantage, record)
            spent += record.seconds
            if spent > seconds:
                raise Finding(f"the case took more than its {seconds:.0f} s", "slow", {"limit": f"{seconds:.0f} s"})

        share.inside.observer = watch
        body(share)

    def _crossed(
        self, further: Further, case: Case, mount: MountOptions, *, passed: bool
    ) -> tuple[Crossed | None, Exception | None, bool]:
        """The messages that crossed, None without a trace; why they are unknown; whether the agent is lost.

        The case's descriptors inside are closed. The guest is not queried if the case has passed and nothing is open;
        but where its kernel may write something back later, only if every message that the case is about has crossed.
        """
        inside = self.deployment.inside
        try:
            at_once = passed and inside.idle
            if at_once and mount.cache != "none" and self.deployment.traced:
                at_once = not parse("".join(inside.traced)).missing(case.covers)
            traced = inside.end_case(wait=not at_once)
            if traced is None or not self.deployment.traced:
                return None, None, False
            return parse(traced).and_then(further.crossed()), None, False
        except Unprepared as e:
            return None, e.why, False
        except CallHung as e:
            return None, Finding(f"closing what the case left open inside: {e}", "hung", {"call": "close"}), True
        except (OSError, InfrastructureError) as e:
            return None, e, True

    def _blamed(
        self, raised: BaseException | None, further: Further, *, charged: bool
    ) -> tuple[BaseException | None, bool]:
        """The outcome of the case once it is clear who is at fault, and whether the target has stopped serving.

        If the suite's own ground is broken, that replaces the failure. A dead target is charged to the case, even if
        the case did not notice.
        """
        if self.broken is not None or isinstance(raised, Undrivable | Unsupported | GroundLost):
            return raised, False
        if raised is None and self.deployment.death() is None:
            return None, False
        silent = isinstance(raised, LinkLost) or (raised is not None and isinstance(raised.__cause__, LinkLost))
        if (lost := self.deployment.ground_lost(answers=not silent) or further.ground_lost()) is not None:
            lost.__cause__ = raised
            return lost, False
        # A guest that has just produced a finding is alive; do not probe it again on a busy machine.
        asked = self.deployment.trouble if isinstance(raised, InfrastructureError) else self.deployment.death
        trouble = asked()
        if trouble is not None and (lost := self.deployment.ground_lost(answers=False)) is not None:
            lost.__cause__ = raised  # it was killed between the two checks
            return lost, False
        if isinstance(raised, MountFailed) and trouble is not None:
            raised.why = f"{raised.why}; {trouble}"
            return raised, True
        if trouble is not None and not charged and isinstance(raised, InfrastructureError):
            raised.message = f"{trouble}, before the case began on the share ({raised.message})"
        if trouble is None or not charged or isinstance(raised, SuiteError):
            return raised, trouble is not None
        found = findings_of(raised)
        beside = f" ({raised})" if raised is not None and not found else ""
        died = TargetDied(trouble + beside, values={"seen": trouble})
        died.__cause__ = raised
        return Findings([died, *found]) if found else died, True

    def _unmounted(self, case: Case, mount: MountOptions, failed: MountFailed, *, own: bool) -> Finding | Undrivable:
        """The outcome of the case if a share cannot be mounted on a fresh machine either.

        `own`: it was the case's own share, not a further one that the case requested.
        """
        if own:
            self.unmountable.failed(mount, failed)
            return self.unmountable.outcome(case, mount)
        said = {"options": failed.options, "seen": failed.why}
        text = f"a further share cannot be mounted with {failed.options}, nor on a fresh guest: {failed.why}"
        return Finding(text, "mount", said)

    def _after(
        self, share: Share | None, further: Further, raised: BaseException | None, *, lost: bool
    ) -> BaseException | None:
        """Clean up, and restore what the case killed or what broke under it. `lost`: the agent inside is known to be
        gone.
        """
        hung = lost or (any(c.trouble for c in share.calls) if share is not None else False)
        if not isinstance(raised, GroundLost):
            raised = further.charged(raised)
        try:
            further.tidy(hung=hung)
        except (OSError, InfrastructureError) as e:
            raised = raised or self._left(e, further)
        tidied = False
        if share is not None and not hung and not _breaks(raised):
            try:
                self._tidy(share)
                tidied = True
            except (OSError, InfrastructureError) as e:
                raised = raised or self._left(e, further)
        if isinstance(raised, GroundLost) and raised.restorable:
            self._rebuild(share)
        elif self.broken is None and self._needs_another_guest(share, raised, tidied=tidied):
            self._recover()
        return raised

    def _needs_another_guest(self, share: Share | None, raised: BaseException | None, *, tidied: bool) -> bool:
        """Whether the case has left something in the guest, or taken a device from it."""
        left = not tidied and (share is not None or _breaks(raised))
        return left or (share is not None and self.deployment.outages.lost)

    def _left(self, error: Exception, further: Further) -> BaseException | None:
        """The outcome of a case that passed and whose files cannot be removed."""
        left = Finding(f"the case left what cannot be removed: {error}", "left")
        return self._blamed(left, further, charged=True)[0]

    def _rebuild(self, share: Share | None) -> None:
        """Bring everything up again after the ground was repaired, without any files of the case."""
        self._mounted = None
        try:
            self.deployment.rebuild()
            if share is not None and not share.alone:
                self.deployment.outside.calls.drop_root(share.outside.root)
        except InfrastructureError as e:
            self.broken = e
        except OSError:
            return  # a directory that cannot be removed does no harm: each case has its own

    def _recover(self) -> None:
        self._mounted = None
        try:
            self.deployment.recover()
        except InfrastructureError as e:
            self.broken = e

    def _tidy(self, share: Share) -> None:
        """Remove the case's processes and files."""
        d = self.deployment
        holder = d.control if share.on_control else d.inside if share.alone else d.outside
        for link in {id(d.inside): d.inside, id(holder): holder}.values():
            link.reap()
        holder.calls.drop_root(share.inside.root if share.alone else share.outside.root)


def _breaks(raised: BaseException | None) -> bool:
    """Whether the deployment must be brought up again; that would not help against a full disk of this host."""
    return isinstance(raised, InfrastructureError) and not (isinstance(raised, GroundLost) and not raised.restorable)


OPTIMISTIC = frozenset(
    {"xattr", "xattr-trusted", "xattr-security", "acl", "locks", "mknod", "rename-exchange", "tmpfile", "fallocate"}
)
"""Features of the protocol itself: every target must have them unless its profile declares them as unsupported."""


def _judged(run: Callable[[], None], share: Share) -> None:
    """Run a case to its end and raise all that its checks and its comparisons found."""
    with collecting() as found:
        last: Exception | None = None
        try:
            run()
        except CallAbsent as e:  # a value that the platform does not report
            last = Undrivable(str(e))
        except Late as e:
            last = e.why
        except Exception as e:  # noqa: BLE001 - raised again, after the findings before it
            last = e
        if last is None or findings_of(last):
            try:
                share.settle()
            except Late as e:
                last = last or e.why
            except Finding as e:  # the case has too many findings
                last = last or e
    if last is None and not found.judged and not share.comparisons and not share.on_control:
        if share.alone:
            raise Undrivable("there is no vantage outside to compare with")
        raise SuiteError(f"{share.case.id} ended without judging anything: no fault could fail it")
    raise_all(found, last)
