"""The effect of QEMU's security models on the comparison of inside with outside.

Rule of this module: a difference is tolerated only if the model itself causes it, and the reason names the model.
Source: QEMU's manual, -fsdev security_model; hw/9pfs/9p-local.c.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

from conformance.vfs.compare import Comparer, Rule

MODELS = ("passthrough", "mapped-xattr", "mapped-file", "none")

_MAPPED = "security_model={}: {}"
_KEPT = {
    "mapped-xattr": "the guest's owner, mode and device number are kept in user.virtfs.* attributes; on the host all "
    "that is not a directory is a plain 0600 file of the server's user",
    "mapped-file": "the guest's owner, mode and device number are kept in .virtfs_metadata; on the host all that is "
    "not a directory is a plain 0600 file of the server's user",
}
_LINK = "a symbolic link is kept as a plain file that holds the target"
_OWNER = "the server runs without privilege: files it makes are its own user's"


def rules(model: str, host_root: bool) -> dict[str, Rule]:
    """The comparison rules that differ under that model, run as root on the host or not."""
    if model in _KEPT:
        kept, link = _MAPPED.format(model, _KEPT[model]), _MAPPED.format(model, _LINK)
        made = dict.fromkeys(("mode", "uid", "gid", "rdev", "type"), Rule("informational", kept))
        acls = dict.fromkeys(("system.posix_acl_access", "system.posix_acl_default"), Rule("informational", kept))
        return {**made, "target": Rule("informational", link), **acls}
    if not host_root:
        return dict.fromkeys(("uid", "gid"), Rule("informational", _MAPPED.format(model, _OWNER)))
    return {}


def comparer(model: str, overrides: Mapping[str, Rule], *, host_root: bool | None = None) -> Comparer:
    """The comparison of a share with that model: its rules, overridden by the profile's, and the names that it hides.

    ``host_root``: whether its server runs as root; None: as this process does.
    """
    made = rules(model, os.geteuid() == 0 if host_root is None else host_root)
    return Comparer({**made, **overrides}, partial(hidden, model))


def hidden(model: str, name: str) -> bool:
    """Whether the model keeps its own data under that name on the host, which the guest must not see."""
    if model == "mapped-file":
        return name in (".virtfs_metadata", ".virtfs_metadata_root")
    return model == "mapped-xattr" and name.startswith("user.virtfs.")
