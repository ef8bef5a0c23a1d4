"""A virtual machine: restored from a snapshot, watched, and stopped without leaving anything behind."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from guests.access.launcher import SocketLineChannel
from guests.access.shell import Shell
from guests.agent.clock import WrongClock
from guests.agent.hosts import agent_over
from guests.agent.packing import agent_file
from guests.errors import InfrastructureError
from guests.host.endings import OutOfMemory, interference
from guests.host.lines import LineChannel
from guests.host.processes import clean_left_over
from guests.host.progress import Progress, silent
from guests.images.recipe import load_recipe
from guests.images.store import Image, cached_image, ensure_image
from guests.machines.base import AnyMachine
from guests.machines.console import ConsoleLogin, ConsoleWatch
from guests.machines.qemu.accelerator import choose_accelerator, find_qemu
from guests.machines.qemu.argv import MAX_SHARES
from guests.machines.qemu.launch import Launch, PortTaken, require_free_port
from guests.machines.qemu.snapshot import Snapshot, cached_snapshot, ensure_snapshot
from guests.machines.spec import Access, MachineSpec

READY_LIMIT = 60.0
"""Seconds that a restored guest has to answer; it takes one or two."""


class QemuMachine(AnyMachine[Launch]):
    """One QEMU process and the channels into its guest."""

    program = Launch.program

    def __init__(self, spec: MachineSpec, progress: Progress = silent) -> None:
        self.spec = spec
        self._progress = progress
        self._image: Image | None = None
        self._snapshot: Snapshot | None = None
        run_dir = spec.run_dir.absolute()
        self.logs = {"console": run_dir / "console.log", "qemu": run_dir / "qemu.log"}
        self.console = ConsoleWatch(self.logs["console"])
        self.accelerator = self.accelerator_reason = ""
        """``kvm`` or ``tcg``, and why, once started."""

    def start(self) -> None:
        """Restore the guest from its snapshot; first make the image and the snapshot if they are missing."""
        if self._launch is not None:
            raise InfrastructureError("this machine is already started", "stop it first, or restore it")
        check(self.spec)
        if self.spec.ssh_port is not None:
            require_free_port(self.spec.ssh_port)
        for line in clean_left_over():
            self._progress(line)
        self.logs["console"].parent.mkdir(parents=True, exist_ok=True)
        made = self._prepare()
        try:
            self._start_once()
        except PortTaken:
            raise
        except InfrastructureError as error:
            # A snapshot can become invalid in ways that its key does not cover: another CPU, a QEMU behind a script, a
            # clock whose counter has another speed on this host.
            if made or not (isinstance(error, WrongClock) or _about_restoring(error)):
                raise
            self._progress(f"the snapshot cannot be used ({error.message}): making it again")
            self._prepare(rebuild=True)
            self._start_once()

    def doubt(self) -> None:
        if self._image is not None:
            if self.accelerator:
                cached_snapshot(self.spec, self.accelerator, self._image).doubt()
            cached_image(load_recipe(self.spec.image, self.spec.extra_packages)).doubt()
        self._image = self._snapshot = None

    def leave(self) -> None:
        """Forget the machine without ending it; for one with ``keep``, which then stays."""
        self._hang_up()
        if self._launch is not None:
            self._launch.leave()
            self._launch = None

    @property
    def image_digest(self) -> str:
        """The hash that names the guest's image; empty before the machine is started."""
        return "" if self._image is None else self._image.digest

    @property
    def pid(self) -> int:
        process = None if self._launch is None else self._launch.process
        return 0 if process is None else process.pid

    @property
    def ssh_port(self) -> int:
        """Port on 127.0.0.1 that leads to the guest's sshd."""
        return self._started().ssh_port

    @property
    def image(self) -> Image:
        """The image in use, once started."""
        if self._image is None:
            raise InfrastructureError("the machine is not started")
        return self._image

    def alive(self) -> bool:
        return not self.panicked() and self.runs()

    def panicked(self) -> bool:
        """The guest's kernel reported a panic to QEMU. QEMU's exit status does not show it: it is 0 then."""
        return any(event["event"] == "GUEST_PANICKED" for event in self.events())

    def why_dead(self) -> str:
        if self.panicked():
            return "the guest's kernel panicked"
        return "the machine is not started" if self._launch is None else self._launch.why_ended()

    def events(self) -> list[dict[str, Any]]:
        """QMP events since the latest start, oldest first."""
        return [] if self._launch is None else self._launch.events()

    def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a QMP command; returns its value. Raises InfrastructureError if QEMU refuses or is gone."""
        qmp = self._started().qmp
        assert qmp is not None
        return qmp.execute(command, **arguments)

    def shell(self) -> Shell:
        """Commands in the guest, over SSH."""
        return self.ssh()

    @property
    def reached_by(self) -> str:
        if self.spec.access == "launcher":
            return "the launcher of the suite's own image"
        return f"SSH to root@127.0.0.1:{self.ssh_port}"

    def agent_channel(self, access: Access | None = None) -> LineChannel:
        """Start an agent in the guest, push it, and return its standard input and output.

        It is reached as ``MachineSpec.access`` says, unless ``access`` is given.
        """
        source = self.spec.agent or agent_file()
        if not source.is_file():
            raise InfrastructureError(f"no agent at {source}", "name one with MachineSpec.agent")
        if (access or self.spec.access) == "launcher":
            return self.python_channel(source)
        return agent_over(self.ssh(), source=source)

    def python_channel(self, source: Path) -> LineChannel:
        """Run a Python file of the host in the guest, by the resident; the channel is its standard input and output."""
        return SocketLineChannel(self._started().run_python(source.read_bytes()))

    def console_login(self, limit: float = 20.0) -> ConsoleLogin:
        """Log in on the serial console: a way in when SSH does not answer."""
        return ConsoleLogin(self._started().console_socket, limit)

    def ground_lost(self, memory: OutOfMemory) -> InfrastructureError | None:
        """See AnyMachine. QEMU itself reports a signal that it handled, and a disk that it cannot write."""
        for event in self.events():
            if event["event"] == "BLOCK_IO_ERROR":
                why = event["data"].get("reason", "an I/O error")
                return InfrastructureError(
                    f"QEMU could not use the guest's own disk: {why}",
                    "free some space in the cache, or set XDG_CACHE_HOME",
                )
            if event["event"] == "SHUTDOWN" and event["data"].get("reason") == "host-signal":
                # The event comes before QEMU has ended: only then is it known which signal it was.
                sent = None if self._launch is None else self._launch.sent_signal(_ENDING)
                return InfrastructureError(*interference(self.program, sent or "a signal", memory))
        return super().ground_lost(memory)

    def _start_once(self) -> None:
        assert self._image is not None and self._snapshot is not None
        self._mark()
        self._launch = Launch(
            self.spec, self.accelerator, self._image, logs=self.logs, state=self._snapshot.state, restore=True
        )
        try:
            self._launch.wait_ready(READY_LIMIT)
            self._launch.check_clock()
        except BaseException:
            self.stop()
            raise

    def _prepare(self, rebuild: bool = False) -> bool:
        """Find or make image, accelerator and snapshot, each once per object. True: the snapshot is new."""
        find_qemu(self.spec.qemu)
        if self._image is None:
            self._image = ensure_image(self.spec.image, self.spec.extra_packages, self._progress)
        if not self.accelerator:
            self.accelerator, self.accelerator_reason = choose_accelerator(
                self.spec.accelerator, self._image, self.spec.qemu, self._progress
            )
        self._snapshot, made = ensure_snapshot(self.spec, self.accelerator, self._image, self._progress, rebuild)
        return made


_ENDING = 10.0
"""Seconds that QEMU has to end after it has handled a signal; it takes milliseconds."""


def _about_restoring(error: InfrastructureError) -> bool:
    """Whether a failed start may be the snapshot's fault: QEMU reports that, or the guest never answered."""
    return bool(re.search(r"load|snapshot|savevm|section|migrat|did not answer", error.message, re.I))


def check(spec: MachineSpec) -> None:
    """Raise InfrastructureError for a specification that no machine can be made from."""
    tags = [share.tag for share in spec.shares]
    if len(set(tags)) != len(tags):
        raise InfrastructureError(f"two shares with one tag: {', '.join(tags)}", "give each its own")
    if len(tags) > MAX_SHARES:
        raise InfrastructureError(f"{len(tags)} shares", f"a machine has room for {MAX_SHARES}")
    for share in spec.shares:
        if not share.path.is_dir():
            raise InfrastructureError(
                f"share {share.tag}: the export directory {share.path} does not exist",
                f"mkdir -p {share.path}",
            )
        # The tag field of virtio-9p is sized freely, but QEMU allows 31 bytes (hw/9pfs/9p.h, MAX_TAG_LEN).
        if not 1 <= len(share.tag.encode()) <= 31:
            raise InfrastructureError(f"mount tag {share.tag!r}: QEMU takes 1 to 31 bytes", "choose a shorter one")
