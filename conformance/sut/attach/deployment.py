"""An existing guest and share, on machines that the suite does not own.

Rule of this module: it works in its own directories, below the share, on the guest's native file system and on the host
of the exported directory; it removes them at the end and touches nothing else. It starts, stops and resets no machine,
sets no clock, and remounts or unmounts the share only where the user allows it.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import time
from pathlib import Path
from typing import Any, Literal

from conformance.errors import InfrastructureError, Undrivable, UsageError
from conformance.features import FEATURES
from conformance.ground import GroundLost
from conformance.sut.attach.attachment import Attachment
from conformance.sut.attach.facts import Facts, ask, cost, near_path
from conformance.sut.attach.together import Alone, Together
from conformance.sut.parts.base import BROKEN, ShareDeployment
from conformance.sut.parts.devices.security_models import comparer
from conformance.sut.parts.guest_mount import mount_9p, mounted, unmount
from conformance.sut.parts.power import ByProcess
from conformance.sut.spec import Target
from conformance.vfs.deployment import Progress
from conformance.vfs.mount_options import DEFAULT, MountOptions, in_force
from conformance.virtio.guest_pci import GuestBus
from guests.agent.clock import rate_between, wrong_clock
from guests.agent.hosts import Host, reach, uptime
from guests.agent.link import AgentLink
from guests.words import did_you_mean, unknown

_TRACES = "/sys/kernel/tracing/instances/assay9*"
"""What the agent and the programs of a soak have the kernel's tracing do in."""
_BACK = 600.0
"""Seconds that a machine has to be reached again after its connection was lost: it may boot meanwhile, and slowly."""
_FIRST = 300.0
"""Seconds that an agent has for its first answer: an interpreter starts first, perhaps on an emulated processor."""
_PAUSE = 0.5
"""Seconds between two attempts."""
_STRANGER = 4711
"""An owner that nobody is: what the host shows of a file that the guest gives to it reveals the security model."""
Side = Literal["guest", "outside"]


def present_mount(attachment: Attachment) -> MountOptions:
    """How the share stays mounted: as it is, or as the suite mounts it once. Raises UsageError."""
    if not attachment.mounted:
        return DEFAULT
    guest = reach(attachment.guest, attachment.ssh_config)
    try:
        lines = guest.run(["cat", "/proc/mounts"]).stdout.splitlines()
    finally:
        guest.close()
    shown = [line.split() for line in lines]
    found = [words[3] for words in shown if words[1] == attachment.mounted and words[2] == "9p"]
    if not found:
        raise UsageError(f"--mounted: no 9p share is mounted at {attachment.mounted} in {guest.where}")
    return in_force(found[-1])


def agent_of(host: Host) -> AgentLink:
    """Start an agent on that machine and wait until it answers. Raises InfrastructureError."""
    link = AgentLink(host.start_agent())
    link.calls_with(timeout=_FIRST).getpid()
    return link


class AttachDeployment(ShareDeployment):
    """One guest, the agent in it, and the agent at the exported directory. Deployment describes the rest."""

    _no_host_mounts = "the machine is not the suite's"
    """Why cases cannot mount on the host of the directory."""
    _restored = False
    """The guest is as it was saved, before anything of the run was mounted and made in it."""
    answer_limit = 20.0
    """Seconds that the guest has to answer at all; there may be a network between."""

    def __init__(
        self,
        target: Target,
        attachment: Attachment,
        run_dir: Path,
        progress: Progress,
        *,
        cases: bool = True,
        workers: int = 1,
    ) -> None:
        """`cases`: cases will run, so print which features the machines do not have for them.

        `workers`: the number of deployments of the run, each in its own process, that share one mount.
        """
        super().__init__(target, progress)
        self._cases, self._several = cases, workers > 1
        self.attached = attachment
        self.version = attachment.implementation
        self.name = f"assay9-{secrets.token_hex(4)}"
        """Of each directory that the run makes."""
        self._users = Together(run_dir) if self._several and attachment.tag else Alone(self.name)
        self.mount_point = attachment.mounted or f"/mnt/{self._users.name}"
        self.inside_root = f"{self.mount_point}/{self.name}"
        self.outside_root = f"{attachment.outside.path}/{self.name}"
        self.control_root = f"{attachment.control}/{self.name}"
        self.kernel = ""
        self.power = ByProcess(dict)  # the suite does not own the machine, so it neither stops nor cuts it
        self._log = run_dir
        self._hosts: dict[Side, Host] = {}
        self._facts: dict[Side, Facts] = {}
        self._mounted: MountOptions | None = None
        self._line = ""
        self._made_mount_point = self._mounted_for_good = False

    # ---- beginning

    def start(self) -> None:
        """See Deployment. Raises UsageError if the share is not the directory that the user named."""
        try:
            self._connect()
            clock = uptime(self._hosts["guest"])
            begun = clock.glance()
            self._make_directories()
            self._mount_first()
            self._compare_tokens()
            self._learn()
            if (rate := rate_between(begun, clock.glance())).wrong:
                raise wrong_clock(rate, "boot the guest again")
        except BaseException:
            self.stop()
            raise
        for line in self.connected_to():
            self.progress(line)

    def connected_to(self) -> list[str]:
        """What guest and host can do, and how many cases cannot run."""
        reasons = {
            "guest-root": "the agent in the guest is not root",
            "host-root": "the agent outside is not root",
            "passthrough-ownership": "the host does not show the owners that the guest sets",
            "trace": "the guest's kernel shows no 9p tracepoints",
            "remount": self._no_remount(),
            "mount-namespace": self._no_host_mounts,
            "four-shares": "attach drives one share",
            "mount-tags": "attach drives one share",
            "another-device": "attach starts no machine",
        }
        guest, outside = self._facts["guest"].guest_line(), self._facts["outside"].line()
        return [f"guest {guest}", f"outside {outside}", *(cost(self.features, reasons) if self._cases else ())]

    def _no_remount(self) -> str:
        return "the share stays as it is mounted" if self.attached.mounted else "--allow remount is not given"

    def _connect(self) -> None:
        """Reach both machines and start an agent on each."""
        config = self.attached.ssh_config
        guest = self._hosts["guest"] = reach(self.attached.guest, config)
        host = self._hosts["outside"] = reach(self.attached.outside.host, config)
        self._facts = {"guest": ask(guest, self.attached.control), "outside": ask(host, self.attached.outside.path)}
        self._refuse()
        self.inside = self.control = agent_of(guest)
        self.outside = agent_of(host)
        self.kernel = self.inside.calls.uname()[2]

    def _refuse(self) -> None:
        """Raise UsageError for what cannot be driven at all."""
        guest, outside = self._facts["guest"], self._facts["outside"]
        if not guest.linux:
            raise UsageError(f"{guest.where} runs {guest.said['system']}: attach needs a Linux guest so far")
        if not outside.directory:
            near = near_path(self._hosts["outside"], outside.place)
            raise UsageError(f"--outside: {outside.place} is not a directory of {outside.where}{near}")
        if not outside.writable:
            raise UsageError(f"--outside: {outside.place} cannot be written by the user of {outside.where}")
        if not guest.directory or not guest.writable:
            raise UsageError(
                f"{guest.where}: {guest.place} is not a directory that can be written: name another, --control-dir"
            )
        if self.attached.tag and not guest.root:
            raise UsageError(f"{guest.where}: mounting --tag needs root in the guest; --mounted DIR does not")

    def _make_directories(self) -> None:
        """The run's own directories outside and on the control file system."""
        self.control.calls.rmtree(self.control_root)
        self.control.calls.mkdir(self.control_root)
        self.outside.calls.mkdir(self.outside_root)
        self.outside.calls.chmod(self.outside_root, 0o755)

    def _mount_first(self) -> None:
        """Find the existing mount, or make the first one. Raises UsageError."""
        if self.attached.mounted:
            line = mounted(self.inside, self.mount_point)
            if line is None:
                shares = [where for _, where, kind, _ in self.inside.calls.mounts() if kind == "9p"]
                raise UsageError(
                    f"--mounted: nothing is mounted at {self.mount_point} in {self._facts['guest'].where}"
                    f"{did_you_mean(self.mount_point, shares)}"
                )
            if line.split()[2] != "9p":
                raise UsageError(f"--mounted: what is mounted at {self.mount_point} is not a 9p share ({line})")
            self._line = line
            return
        tags = self._facts["guest"].tags
        if tags and self.attached.tag not in tags:
            raise UsageError(f"--tag: {unknown('mount tag', self.attached.tag, tags)}")
        for source, where, kind, _ in self.inside.calls.mounts():
            ours = self._several and where == self.mount_point
            if kind == "9p" and source == self.attached.tag and not ours:
                raise UsageError(f"--tag: {source} is mounted already, say --mounted {where} instead")
        self._mount(DEFAULT)

    def mount(self, options: MountOptions) -> str:
        if self.attached.mounted:
            wrong = options.contradicted_by(self._line.split()[3])
            if wrong:
                raise Undrivable(f"the share is mounted otherwise, and stays so: {'; '.join(wrong)}")
            return self._line
        if self._mounted_for_good and self._mounted != options and "remount" not in self.attached.allow:
            raise Undrivable(
                f"the share is mounted once, with {self._mounted}: {FEATURES['remount']} (--allow remount)"
            )
        line = self._mount(options)
        self._mounted_for_good = True
        return line

    def _mount(self, options: MountOptions) -> str:
        """Mount the tag with these options unless it is mounted; another worker of the run may have done it."""
        if self._mounted != options or mounted(self.inside, self.mount_point) != self._line:
            with self._users.turn():
                self._users.join()
                self._mounted, self._made_mount_point = None, True
                there = mounted(self.inside, self.mount_point) if self._several else None
                if there is None:
                    unmount(self.inside, self.mount_point)
                    there = mount_9p(self.inside, self.mount_point, options, *self.source(0))
                elif wrong := options.contradicted_by(there.split()[3]):
                    raise Undrivable(f"the workers of the run have one mount together: {'; '.join(wrong)}")
            self._line, self._mounted = there, options
        return self._line

    def _compare_tokens(self) -> None:
        """Make sure that the share is the directory: a token written on each side is found on the other."""
        words = {side: secrets.token_hex(16) for side in ("outside", "inside")}
        where = f"{self.attached.outside} of {self._facts['outside'].where}"
        share = f"the share at {self.mount_point} in {self._facts['guest'].where}"
        self.outside.calls.write_text(f"{self.outside_root}/.outside", words["outside"])
        try:
            seen = self.inside.calls.read_text(f"{self.inside_root}/.outside")
        except OSError as error:
            raise UsageError(
                f"{share} is not the directory {where}: what is written there is not found here ({error.strerror})"
            ) from None
        if seen != words["outside"]:
            raise UsageError(f"{share} is not the directory {where}: a file there has another content here")
        try:
            self.inside.calls.write_text(f"{self.inside_root}/.inside", words["inside"])
        except OSError as error:
            raise UsageError(f"{share} cannot be written: {error.strerror}") from None
        try:
            seen = self.outside.calls.read_text(f"{self.outside_root}/.inside")
        except OSError as error:
            seen = str(error.strerror)
        if seen != words["inside"]:
            raise UsageError(
                f"{share} does not write to the directory {where}: what is written here is not found there"
            )

    def _learn(self) -> None:
        """The features that cases may need, the security model and the rules of comparison that follow."""
        guest, outside = self._facts["guest"], self._facts["outside"]
        self.traced = guest.root and self.inside.calls.trace_begin(self._several)
        self.guest_mb = self._memory_mb()
        self.security_model = self._model()
        self.comparer = comparer(self.security_model, self.target.profile.overrides(), host_root=outside.root)
        have = {
            "guest-root": guest.root,
            "host-root": outside.root,
            "passthrough-ownership": self.security_model == "passthrough",
            "trace": self.traced,
            "remount": "remount" in self.attached.allow,
        }
        self.features = frozenset({name for name, so in have.items() if so} | set(self.target.profile.features))

    def _memory_mb(self) -> int:
        """The guest's memory in MiB, as its kernel counts it."""
        lines = self.inside.calls.read_text("/proc/meminfo").splitlines()
        return int(next(line for line in lines if line.startswith("MemTotal:")).split()[1]) >> 10

    def _model(self) -> str:
        """How the share keeps owners and modes, tried on a file whose owner the guest changes."""
        inside, outside = f"{self.inside_root}/.owner", f"{self.outside_root}/.owner"
        if not self._facts["guest"].root:
            return "none"
        self.inside.calls.create(inside, b"")
        with contextlib.suppress(OSError):
            self.inside.calls.lchown(inside, _STRANGER, _STRANGER)
        self.inside.calls.chmod(inside, 0o640)
        shown, seen = self.inside.calls.lstat(inside), self.outside.calls.lstat(outside)
        names = self.outside.calls.listdir(self.outside_root)
        try:
            attributes = self.outside.calls.listxattr(outside, follow_symlinks=False)
        except OSError:
            attributes = []
        self.inside.calls.unlink(inside)
        if seen["st_uid"] == _STRANGER:
            return "passthrough"
        if shown["st_uid"] != _STRANGER:
            return "none"
        if ".virtfs_metadata" in names:
            return "mapped-file"
        return "mapped-xattr" if "user.virtfs.uid" in attributes else "none"

    def free_device(self, program: Path) -> GuestBus:
        """Unmount the suite's own mount of the share, so that the program can take its device from the guest's kernel.

        Raises InfrastructureError.
        """
        unmount(self.inside, self.mount_point)
        self._mounted = None
        return GuestBus(self._hosts["guest"].start_program(program), self.attached.tag)

    def started_by(self) -> list[str]:
        """The command that started the machine; none if the suite did not."""
        return []

    # ---- its description

    def environment(self) -> dict[str, Any]:
        outside = self._facts["outside"]
        return {
            "target_version": self.attached.implementation or "an implementation that the user did not name",
            "guest_kernel": self.kernel,
            "security_model": self.security_model,
            "access": ", ".join(filter(None, (f"SSH to {self.attached.guest}", self._facts["guest"].by_shell))),
            "outside": outside.line(),
            "guest": self._facts["guest"].guest_line(),
        }

    def source(self, number: int) -> tuple[str, str]:
        if number or not self.attached.tag:
            raise Undrivable(FEATURES["four-shares"])
        return self.attached.tag, "trans=virtio"

    def outside_at(self) -> tuple[Host, str]:
        return self._hosts["outside"], self.outside_root

    def processes(self) -> dict[str, int]:
        return self.serving() if self.attached.outside.host is None else {}

    def serving(self) -> dict[str, int]:
        command, host = self.attached.process, self._hosts.get("outside")
        if not command or host is None:
            return {}
        words = host.run(command).stdout.split()
        return {"device": int(words[0])} if words and words[0].isdigit() else {}

    # ---- its health

    def trouble(self) -> str | None:
        try:
            self.inside.calls_with(timeout=self.answer_limit).getpid()
        except Exception as error:  # noqa: BLE001 - whatever it is, the guest does not serve
            return self._rebooted() or f"the guest no longer answers: {error}"
        return None

    def _rebooted(self) -> str | None:
        """A sentence if the guest has booted since the run began, else None."""
        with contextlib.suppress(InfrastructureError):
            if self._again("guest")[1].boot != self._facts["guest"].boot:
                return "the guest rebooted"
        return None

    def ground_lost(self, *, answers: bool = True) -> GroundLost | None:
        return self._outside_lost() or self._guest_lost(answers)

    def _outside_lost(self) -> GroundLost | None:
        where = self._facts["outside"].where
        try:
            self._write_ground(self.outside, self.outside_root)
        except OSError as error:
            if error.errno in (*BROKEN, errno.ENOENT, errno.EDQUOT):
                gone = error.errno == errno.ENOENT
                why = "is gone" if gone else f"cannot be written: {error.strerror}"
                return GroundLost(f"{self.outside_root} of {where} {why}", "see its file system", restorable=gone)
        except Exception as error:  # noqa: BLE001 - whatever it is, the agent makes no calls any more
            return GroundLost(f"the agent at {self.attached.outside} does not respond: {error}", "it is started again")
        return None

    def _guest_lost(self, answers: bool) -> GroundLost | None:
        where, guest = self._facts["guest"].where, self._hosts.get("guest")
        if guest is None or not guest.alive or not answers:
            try:
                found = self._again("guest")[1]
            except InfrastructureError as error:
                return GroundLost(error.message, "see its console")
            if found.boot != self._facts["guest"].boot:
                return None  # `trouble` reports it
            return GroundLost(f"the connection to {where} was lost, and is back", "see the network between")
        try:
            self._write_ground(self.control, self.control_root)
        except OSError as error:
            if error.errno in BROKEN:
                return GroundLost(f"the guest's own file system at {self.control_root} fails: {error.strerror}", "")
        except Exception:  # noqa: BLE001 - whatever it is, the guest no longer answers: `trouble` says so
            return None
        return None

    # ---- recovery, and the end

    def _again(self, which: Side) -> tuple[Host, Facts]:
        """The machine and its facts, reconnected if the connection was lost."""
        destination = self.attached.guest if which == "guest" else self.attached.outside.host
        limit = time.monotonic() + _BACK
        while True:
            try:
                host = self._hosts.get(which) or reach(destination, self.attached.ssh_config)
                self._hosts[which] = host
                return host, ask(host, self._facts[which].place)
            except (InfrastructureError, TimeoutError) as error:
                if (lost := self._hosts.pop(which, None)) is not None:
                    lost.close()
                if time.monotonic() > limit:
                    raise InfrastructureError(
                        f"{self._facts[which].where} can no longer be reached: {error}"
                    ) from error
                time.sleep(_PAUSE)

    def recover(self) -> None:
        """See Deployment: the suite does not own the machine, so it restarts only agents and connections."""
        self._close_links()
        (guest, found), (host, _) = self._again("guest"), self._again("outside")
        self.inside = self.control = agent_of(guest)
        self.outside = agent_of(host)
        if found.boot != self._facts["guest"].boot or self._restored:
            self._facts["guest"], self._mounted = found, None
            self.control.calls.rmtree(self.control_root)
            self.control.calls.mkdir(self.control_root)
        if self.attached.mounted and mounted(self.inside, self.mount_point) is None:
            raise InfrastructureError(
                f"the share is not mounted at {self.mount_point} any more", "mount it, and run again"
            )
        if self.attached.tag and self._mounted is None:
            self._mount(DEFAULT)
        self.traced = self._facts["guest"].root and self.inside.calls.trace_begin(self._several)

    def rebuild(self) -> None:
        self.recover()
        for link, directory in ((self.outside, self.outside_root), (self.control, self.control_root)):
            try:
                link.calls.mkdir(directory)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise InfrastructureError(f"{directory} cannot be made: {error.strerror}") from error

    def stop(self) -> None:
        left = []
        for what, step in (
            (self.outside_root, self._remove_outside),
            (self.mount_point, self._remove_mount),
            (self.control_root, self._remove_control),
        ):
            try:
                step()
            except Exception as error:  # noqa: BLE001 - the other steps are taken all the same
                left.append(f"{what} ({error})")
        self._close_links()
        hosts, self._hosts = self._hosts, {}
        if "guest" in hosts and self.traced:
            with contextlib.suppress(InfrastructureError, TimeoutError):
                hosts["guest"].run(f"rmdir {_TRACES}", timeout=20.0)
        for host in hosts.values():
            host.close()
        if left:
            self.progress(f"what could not be removed and is left: {'; '.join(left)}")

    def _remove_outside(self) -> None:
        if hasattr(self, "inside"):
            self.inside.calls_with(timeout=self.answer_limit).reset()
        if not hasattr(self, "outside"):
            return
        try:
            self.outside.calls.rmtree(self.outside_root)
        except OSError as error:  # the guest can remove what its root has made
            if error.errno not in (errno.EACCES, errno.EPERM):
                raise
            self.inside.calls.rmtree(self.inside_root)
            self.outside.calls.rmtree(self.outside_root)

    def _remove_mount(self) -> None:
        if self._made_mount_point:
            with self._users.turn():
                if self._users.leave():
                    unmount(self.inside, self.mount_point)
                    self.inside.calls.rmdir(self.mount_point)
            self._made_mount_point = False

    def _remove_control(self) -> None:
        if hasattr(self, "control"):
            self.control.calls.rmtree(self.control_root)

    def _close_links(self) -> None:
        super()._close_links()
        for name in ("inside", "outside"):
            self.__dict__.pop(name, None)
