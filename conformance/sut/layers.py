"""Which layers a target can drive, which of them its default run has, and which options mean something for a run.

Rule of this module: pure; nothing is looked at but the target's TOML and the words of the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from conformance.errors import UsageError
from conformance.sut.spec import Target
from conformance.sut.transport_choice import BELOW, chosen_link, links_of

MOUNTED = ("vfs", "property")
"""Layers whose cases need a mounted share."""

FLAGS = {
    "qemu": "--qemu",
    "qemu_args": "--qemu-arg",
    "image": "--guest",
    "security_model": "--security-model",
    "keep_guest": "--keep-guest",
    "access": "--access",
    "address": "--address",
    "aname": "--aname",
    "export": "--export",
    "link": "--link",
    "mount": "--mount",
    "mounts": "--mounts",
    "control": "--control",
}
"""Option of a run -> how the command line spells it (`assay9 soak` says --image for --guest)."""


def drivable(target: Target) -> tuple[str, ...]:
    """The layers that some road leads to, in the order in which a run has them."""
    mounted = () if target.kind == "server" else MOUNTED
    links = links_of(target)
    ring = any(link != "socket" for link in links)
    return (*mounted, *(("wire",) if links else ()), *(("ring",) if ring else ()))


def default_layers(target: Target) -> tuple[str, ...]:
    """The layers of a run that names none: all that can be driven, unless the target's TOML says which."""
    return tuple(target.layers) or drivable(target)


def left_out(target: Target) -> dict[str, str]:
    """Layers that a run without --layer leaves out though they can be driven, each with the reason."""
    default = default_layers(target)
    return {
        layer: target.left_out.get(layer, "the target's TOML does not list it in `layers`")
        for layer in drivable(target)
        if layer not in default
    }


def said_of_left_out(target: Target) -> list[str]:
    """A line on each layer that is left out, for whoever runs the target without --layer."""
    return [f"layer {layer} is left out: {why} (--layer {layer} runs it)" for layer, why in left_out(target).items()]


def check_layers(target: Target, layers: Collection[str]) -> None:
    """Refuse a layer that the target cannot drive. Raises UsageError."""
    can = drivable(target)
    for layer in layers:
        if layer in can:
            continue
        why = "nothing mounts it" if layer in MOUNTED else "raw frames do not reach it"
        if layer == "ring" and layer not in can and "wire" in can:
            why = "it is reached over a socket, which has no virtqueues"
        if layer not in (*MOUNTED, *BELOW):
            why = "no runner drives it"
        have = f"it has {', '.join(can)}" if can else "it has none"
        raise UsageError(f"no layer {layer}: {why} ({have})")


def check_options(
    target: Target, layers: Collection[str], given: Mapping[str, Any], flags: Mapping[str, str] = FLAGS
) -> None:
    """Refuse an option that does not apply to a run of these layers on this target. Raises UsageError.

    `given` holds what the user gave; what is empty was not given.
    """
    asked = given.get("link")
    links = [chosen_link(target, asked, layer) for layer in BELOW if layer in layers] or [chosen_link(target, asked)]
    link = links[0]
    for option, why in _meaningless(target, layers, link):
        if given.get(option):
            raise UsageError(f"{flags[option]} means nothing here: {why}")


def _meaningless(target: Target, layers: Collection[str], link: str | None) -> Iterator[tuple[str, str]]:
    """Each option that means nothing, and why."""
    mounted = [layer for layer in layers if layer in MOUNTED]
    below = [layer for layer in layers if layer in BELOW]
    name = f"target {target.name}"
    program = target.server.get("program")
    only_below = f"the layers {_and(below)} mount nothing"
    qemu = target.kind in ("qemu", "tcp")
    if not qemu:
        yield from _each(("qemu", "qemu_args"), f"{name} runs no QEMU (its kind is {target.kind})")
        yield "keep_guest", f"{name} starts no guest that could stay (its kind is {target.kind})"
        yield "access", f"there is one way into {name} (its kind is {target.kind})"
    elif not mounted:
        yield from _each(("keep_guest", "access"), only_below)
        if link is not None and link.startswith("vhost-user"):
            yield from _each(("qemu", "qemu_args"), f"--link {link} leads past QEMU")
    if target.kind not in ("qemu", "tcp", "uml"):
        guest = "the guest under v86 is one of its own" if target.kind == "v86" else f"its kind is {target.kind}"
        yield "image", f"{name} has no guest to choose ({guest})"
    elif not mounted and link != "guest-pci":
        yield "image", f"the layers {_and(below)} boot no guest over {link}"
    if target.kind != "qemu" or target.server:
        yield "security_model", f"{name} does not serve from QEMU's own device"
    elif not mounted and link is not None and link.startswith("vhost-user"):
        yield "security_model", f"--link {link} leads past QEMU"
    if program not in ("external", "vhost-user"):
        ours = f"{name} is started by the suite itself"
        yield from _each(("address", "aname", "export"), ours if program else f"{name} is no server of yours")
    if not links_of(target):
        yield "link", f"raw frames do not reach {name}"
    elif not below:
        yield "link", "it is for the layers wire and ring; add --layer wire or --layer ring"
    if not mounted:
        yield from _each(("mount", "mounts", "control"), only_below)


def _each(options: Sequence[str], why: str) -> Iterator[tuple[str, str]]:
    return ((option, why) for option in options)


def _and(words: Sequence[str]) -> str:
    return " and ".join(words)
