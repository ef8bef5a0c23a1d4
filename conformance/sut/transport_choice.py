"""From a target and a link's name to the server table by which the wire and ring layers reach its device."""

from __future__ import annotations

from typing import Any

from conformance.errors import UsageError
from conformance.sut.spec import Target
from guests.words import unknown

_VHOST_USER = ("vhost-user", "vhost-user-inband", "vhost-user-legacy")
LINKS: dict[str, tuple[str, ...]] = {
    "qemu": ("qtest", "qtest-legacy", "guest-pci"),
    "uml": _VHOST_USER,
}
"""Kind of target -> the links that lead to its device, the default first."""
BELOW = ("wire", "ring")
"""Layers that need a link instead of a mount."""


def links_of(target: Target) -> tuple[str, ...]:
    """The links of a target, the default first; none where raw frames cannot reach it."""
    if target.kind in ("qemu", "uml") and target.server.get("command"):
        return ()  # without a guest only the project's own back end is started
    if target.kind == "qemu" and target.server:
        return ("qtest", *_VHOST_USER)  # a back end of this host: through QEMU, or past it
    if target.kind != "server":
        return LINKS.get(target.kind, ())
    if target.server.get("program") == "reference":
        own = target.server.get("transport", "unix")
        roads = _VHOST_USER
        return (*roads, "socket") if own == "vhost-user" else ("socket", *roads)
    return _VHOST_USER if target.server.get("program") == "vhost-user" else ("socket",)


def chosen_link(target: Target, asked: str | None, layer: str = "wire") -> str | None:
    """The link to use; None where the target has none. Raises UsageError for one that it does not have.

    The layer ring needs virtqueues, which a socket does not have.
    """
    links = links_of(target)
    if asked is not None and asked not in links:
        raise UsageError(f"target {target.name}: {unknown('link', asked, links)}")
    if layer == "ring":
        links = tuple(link for link in links if link != "socket")
        if asked == "socket":
            raise UsageError(f"layer ring needs virtqueues, which --link socket has not: use one of {', '.join(links)}")
    return asked or (links[0] if links else None)


def reached(target: Target, options: dict[str, Any], layer: str = "wire") -> Target:
    """The target with the `[server]` table that its link needs. Raises UsageError where it has no link."""
    link = chosen_link(target, options.get("link"), layer)
    if link is None:
        raise UsageError(f"target {target.name} is of kind {target.kind}: raw frames do not reach it")
    return target.model_copy(update={"server": _table(target, link, options)})


def _table(target: Target, link: str, options: dict[str, Any]) -> dict[str, Any]:
    machine, table = target.machine, dict(target.server)
    if link in ("qtest", "qtest-legacy", "guest-pci"):
        program = f"{table.pop('program')}-in-qemu" if table else link.removesuffix("-legacy")
        own: dict[str, Any] = {"legacy": True} if link.endswith("-legacy") else {}
        own |= {
            "qemu": options.get("qemu") or machine.program,
            "security_model": options.get("security_model") or machine.security_model,
            "image": options.get("image") or machine.image,
        }
        arguments = [*machine.arguments, *options.get("qemu_args", ())]
        return {"program": program, "arguments": arguments, **table, "options": {**own, **table.get("options", {})}}
    if link in _VHOST_USER[1:]:
        table["options"] = {**table.get("options", {}), link.removeprefix("vhost-user-"): True}
    if link.startswith("vhost-user") and table.get("program") == "reference":
        return {**table, "transport": "vhost-user"}
    if link == "socket" and table.get("transport") == "vhost-user":
        return {**table, "transport": "unix"}
    return table
