"""A machine that commands start in the outer guest, which the suite boots first; see guests.machines.qemu.outer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from conformance.sut.attach.attachment import Attachment
from conformance.sut.hypervisor.deployment import HypervisorDeployment
from conformance.sut.nested.tables import NestedTarget
from conformance.vfs.deployment import Progress
from guests.images.store import Image
from guests.machines.qemu.outer import INNER, OuterHost


class NestedDeployment(HypervisorDeployment):
    """The outer guest, and the machine in it."""

    def __init__(
        self,
        target: NestedTarget,
        attachment: Attachment,
        values: dict[str, str],
        run_dir: Path,
        progress: Progress,
        *,
        cases: bool = True,
    ) -> None:
        super().__init__(target, attachment, target.share.guest, values, run_dir, progress, cases=cases)
        self.image = INNER
        self._outer = OuterHost(run_dir / f"{self.name}-outer", progress=progress)

    def start(self) -> None:
        self._outer.start()
        self.attached = replace(self.attached, ssh_config=self._outer.config)
        super().start()

    def stop(self) -> None:
        super().stop()
        self._outer.stop()

    def suite_image(self) -> Image:
        return self._outer.image

    def environment(self) -> dict[str, Any]:
        return {
            **super().environment(),
            "guest_image": self.image,
            "guest_image_hash": self._outer.image.digest,
            "accelerator": "kvm",
            "accelerator_reason": "KVM of the outer guest, whose processor is emulated",
        }
