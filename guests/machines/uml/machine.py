"""A User-Mode Linux machine, the counterpart of `guests.machines.qemu.machine.QemuMachine`."""

from __future__ import annotations

from guests.agent.hosts import agent_over
from guests.errors import InfrastructureError
from guests.host.lines import LineChannel
from guests.host.progress import Progress, silent
from guests.images.recipe import load_recipe
from guests.images.store import Image, cached_image, ensure_image
from guests.machines.console_machine import PortMachine
from guests.machines.spec import Access
from guests.machines.uml import kernel
from guests.machines.uml.kernel import UmlKernel, ensure_kernel
from guests.machines.uml.launch import UmlLaunch
from guests.machines.uml.spec import UmlSpec


class UmlMachine(PortMachine[UmlLaunch]):
    """One User-Mode Linux kernel and the ways into it: lines of its console, and SSH if there is a network."""

    accelerator = "uml"
    program = UmlLaunch.program
    ready_limit = 60.0  # it takes about one

    def __init__(self, spec: UmlSpec, progress: Progress = silent) -> None:
        super().__init__(spec.run_dir, spec.agent, progress)
        self.spec = spec
        self._kernel: UmlKernel | None = None
        self._image: Image | None = None

    @property
    def image(self) -> Image:
        """The image that its root is made from. Raises InfrastructureError before the first start."""
        if self._image is None:
            raise InfrastructureError("the guest was never started")
        return self._image

    @property
    def kernel(self) -> UmlKernel:
        """The kernel in use. Raises InfrastructureError before the first start."""
        if self._kernel is None:
            raise InfrastructureError("the guest was never started")
        return self._kernel

    def _begin(self, rebuild: bool) -> UmlLaunch:
        self._kernel = self._kernel or ensure_kernel(self._progress)
        self._image = self._image or ensure_image(self.spec.image, self.spec.extra_packages, self._progress)
        self._mark()
        return UmlLaunch(self.spec, self._kernel, self._image, self.logs["console"])

    def doubt(self) -> None:
        kernel.cached().doubt()
        cached_image(load_recipe(self.spec.image, self.spec.extra_packages)).doubt()
        self._kernel = self._image = None

    @property
    def reached_by(self) -> str:
        return "lines of its console"

    def agent_channel(self, access: Access | None = None) -> LineChannel:
        """Start an agent in the guest and return its standard input and output: over the console, or over SSH."""
        if access != "ssh":
            return self.resident_channel()
        return agent_over(self.ssh(), source=self.agent)
