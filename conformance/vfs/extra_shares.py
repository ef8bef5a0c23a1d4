"""The further shares that one case requests: beside its own in the same guest, or in a second VM.

Each is a `Share` like the case's own. What is called and compared there is recorded with the case's own calls, with
the share's label; the messages that cross there count as the case's.
"""

from __future__ import annotations

import contextlib
from typing import Any

from conformance.errors import InfrastructureError, TargetDied
from conformance.ground import GroundLost
from conformance.vfs.deployment import Deployment, Device, Outages, Place
from conformance.vfs.look import Mounted
from conformance.vfs.mount_options import MountOptions, rules_of
from conformance.vfs.share import Share
from conformance.vfs.trace import NOTHING, Crossed, parse
from conformance.vfs.vantage import Vantage


class Further:
    """The further shares of one case, and their end."""

    def __init__(self, deployment: Deployment, directory: str) -> None:
        self._deployment, self._directory = deployment, directory
        self._open: list[tuple[Place, Share, bool]] = []
        """Each with whether the case's directory in it is left to whoever made it."""
        self.machines: dict[str, dict[str, Any]] = {}
        """Second machines that the case used: label -> what each says of itself."""

    def beside(self, parent: Share, number: int, mount: MountOptions, *, keep: bool = False) -> Share:
        """A further share of the same guest; with `keep` the case's directory there is kept."""
        return self._share(parent, self._deployment.beside(number, mount), mount, keep=keep)

    def source(self, number: int) -> tuple[str, str]:
        """See Deployment."""
        return self._deployment.source(number)

    @property
    def outages(self) -> Outages:
        """See Deployment."""
        return self._deployment.outages

    def another(self, parent: Share, device: Device, mount: MountOptions) -> Share:
        """A share with another device."""
        return self._share(parent, self._deployment.another(device, mount), mount, keep=device.export == "same")

    def crossed(self) -> Crossed:
        """The messages of second machines; those of the same guest are in its own trace."""
        seen = NOTHING
        for place, share, _ in self._open:
            if place.in_second_machine and place.deployment.traced:
                with contextlib.suppress(InfrastructureError, OSError):
                    seen = seen.and_then(parse(share.inside.agent.calls.trace_end()))
        return seen

    def ground_lost(self) -> GroundLost | None:
        """A failure under a second machine that the target did not cause, or None."""
        seconds = [place.deployment for place, *_ in self._open if place.in_second_machine]
        return next((lost for one in seconds if (lost := one.ground_lost()) is not None), None)

    def charged(self, raised: BaseException | None) -> BaseException | None:
        """The outcome of the case; the crash of a second machine is charged to the case, not to the infrastructure."""
        for place, *_ in self._open:
            if place.in_second_machine and isinstance(raised, InfrastructureError):
                trouble = place.deployment.trouble()
                if trouble is not None:
                    return TargetDied(f"{place.label}: {trouble} ({raised})", values={"seen": trouble})
        return raised

    def tidy(self, *, hung: bool) -> None:
        """Release everything. Raises OSError or InfrastructureError for files that cannot be removed."""
        open_, self._open = self._open, []
        for place, share, keep in open_:
            try:
                for link in (share.inside.agent, share.outside.agent):
                    link.reap()
                    link.calls.reset()
                if not keep:
                    share.outside.agent.calls_with(timeout=20.0).drop_root(share.outside.root)
                if hung:
                    raise InfrastructureError("a call hung")
            except (OSError, InfrastructureError):
                if not place.in_second_machine:
                    raise
                self._deployment.discard(place)
                if not hung:
                    raise

    def _share(self, parent: Share, place: Place, mount: MountOptions, *, keep: bool = False) -> Share:
        d = place.deployment
        inside_root, outside_root = (f"{r}/{self._directory}" for r in (place.inside_root, place.outside_root))
        # In a second machine the agents' main processes; else further processes, whose names are below this share.
        process = "main" if place.in_second_machine else place.label
        if place.in_second_machine:
            self.machines[place.label] = d.environment()
        if process == "main":
            (d.outside.calls.setroot if keep else d.outside.calls.fresh_root)(outside_root)
            d.inside.calls.setroot(inside_root)
            if d.traced:
                d.inside.calls.trace_begin()
        else:
            d.inside.spawn(process, root=inside_root)
            d.outside.spawn(process, root=outside_root)
            if not keep:
                d.outside.calls_with(proc=process).fresh_root(outside_root)
        mounted = Mounted(
            Vantage("inside", d.inside, inside_root, process=process),
            Vantage("outside", d.outside, outside_root, process=process),
            parent.control,
            mount,
            place.inside_root,
            place.outside_root,
            place.comparer.also(rules_of(mount)),
            traced=d.traced and process == "main",
            features=d.features,
            export=place.export,
            label=place.label,
        )
        share = Share(parent.case, mounted, parent=parent)
        self._open.append((place, share, keep))
        return share
