"""How each request is served, one module per message family.

The rule of this package: a handler turns one decoded request into one reply with the store's help. It catches only
exceptions that it can handle better; errors become Rlerror in :mod:`reference_server.session`.
"""

from __future__ import annotations

from reference_server.handlers import (
    attributes,
    directory,
    io,
    link,
    lock,
    node,
    open,
    rename,
    session,
    unlink,
    walk,
    xattr,
)
from reference_server.handlers.declare import OPERATIONS

__all__ = [
    "OPERATIONS",
    "attributes",
    "directory",
    "io",
    "link",
    "lock",
    "node",
    "open",
    "rename",
    "session",
    "unlink",
    "walk",
    "xattr",
]
