"""The layers that a target can drive, those of its default run, and their transport.

Rule of this module: pure; it uses only the target's TOML, its kind and the command line.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from conformance.case import BY_NAME, ON_A_SHARE
from conformance.errors import UsageError
from conformance.sut.kind import Transports, Use
from conformance.sut.registry import kind_of
from conformance.sut.spec import Target
from conformance.vocabulary import Layer
from guests.words import unknown

BELOW: tuple[Layer, ...] = ("wire", "ring")
"""Layers that need a transport instead of a mount."""


def links_of(target: Target) -> Transports:
    """The transports for raw frames to a target, the default first; none if there are none."""
    return kind_of(target).transports(target)


def chosen_link(target: Target, asked: str | None, layer: str = "wire") -> str | None:
    """The transport to use; None if the target has none. Raises UsageError for one that it does not have.

    The layer ring needs one with virtqueues.
    """
    links = links_of(target)
    if asked is not None and asked not in links:
        raise UsageError(f"target {target.name}: {unknown('link', asked, links)}")
    if layer == "ring":
        links = {link: carrier for link, carrier in links.items() if carrier == "virtqueues"}
        if asked is not None and asked not in links:
            raise UsageError(f"layer ring needs virtqueues, and --link {asked} has none: use one of {', '.join(links)}")
    return asked or next(iter(links), None)


def use_of(target: Target, layers: Collection[str], asked: str | None = None) -> Use:
    """What a run of these layers uses of a target. Raises UsageError for a transport that it does not have."""
    below = tuple(layer for layer in layers if layer in BELOW)
    links = [chosen_link(target, asked, layer) for layer in below] or [chosen_link(target, asked)]
    return Use(tuple(layer for layer in layers if layer in ON_A_SHARE), below, links[0])


def drivable(target: Target) -> tuple[str, ...]:
    """The layers that can be driven, in the order of a run."""
    links = links_of(target)
    mounted = ON_A_SHARE if kind_of(target).mounts else ()
    return (*mounted, *(("wire",) if links else ()), *(("ring",) if "virtqueues" in links.values() else ()))


_NO_OPTIONS: Mapping[str, object] = {}


def default_layers(target: Target, options: Mapping[str, object] = _NO_OPTIONS) -> tuple[str, ...]:
    """The layers of a run that names none: all drivable ones, unless the target's TOML or an option restricts them."""
    without = kind_of(target).leaves_out(target, options)
    layers = target.layers or tuple(layer for layer in drivable(target) if layer not in BY_NAME)
    return tuple(layer for layer in layers if layer not in without)


def left_out(target: Target, options: Mapping[str, object] = _NO_OPTIONS) -> dict[str, str]:
    """Drivable layers that a run without --layer leaves out, each with the reason."""
    default = default_layers(target, options)
    reasons = {str(layer): why for layer, why in target.left_out.items()}
    reasons |= kind_of(target).leaves_out(target, options)
    return {
        layer: reasons.get(layer, "the target's TOML does not list it in `layers`")
        for layer in drivable(target)
        if layer not in default
    }


def said_of_left_out(target: Target, options: Mapping[str, object] = _NO_OPTIONS) -> list[str]:
    """A line on each layer that a run without --layer leaves out."""
    without = left_out(target, options)
    return [f"layer {layer} is left out: {why} (--layer {layer} runs it)" for layer, why in without.items()]


def check_layers(target: Target, layers: Sequence[str]) -> None:
    """Refuse a layer that the target cannot drive. Raises UsageError."""
    can = drivable(target)
    for layer in layers:
        if layer in can:
            continue
        why = "nothing mounts it" if layer in ON_A_SHARE else "raw frames do not reach it"
        if layer == "ring" and layer not in can and "wire" in can:
            why = f"it is reached by {' or '.join(links_of(target))}, without virtqueues"
        if layer not in (*ON_A_SHARE, *BELOW):
            why = "no runner drives it"
        have = f"it has {', '.join(can)}" if can else "it has none"
        raise UsageError(f"no layer {layer}: {why} ({have})")
