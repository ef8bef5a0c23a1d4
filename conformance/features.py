"""Features that a case may need beyond calls on a share, with the text for a deployment without them."""

from __future__ import annotations

from protocol.messages import BY_NAME

FEATURES: dict[str, str] = {
    "host-root": "host root",
    "guest-root": "root in the guest",
    "passthrough-ownership": "a security model that keeps owners and modes on the host (passthrough, host root)",
    "trace": "the guest's 9p tracepoints",
    "remount": "a guest that can mount the share again with other options",
    "mount-namespace": "mounts on the host: root for a mount namespace of the run's own, or the target's own commands",
    "xattr": "extended attributes",
    "xattr-trusted": "trusted.* extended attributes on the exported file system, as root",
    "xattr-security": "security.* extended attributes on the exported file system, as root",
    "acl": "POSIX ACLs (mount option posixacl)",
    "locks": "byte-range locks that conflict between clients and host processes",
    "mknod": "special files on the share",
    "four-shares": "a guest with further shares to mount",
    "mount-tags": "shares that are virtio devices with mount tags",
    "another-device": "a target that can start a second machine with other devices",
    "server-restart": "a further share whose server is a process of its own that the suite started",
    "server-loss-seen": "a transport that tells the guest when its server is gone",
    "hot-plug": "devices that the suite can unplug from the running guest and plug in again",
    "rename-exchange": "renameat2(2) with RENAME_EXCHANGE or RENAME_NOREPLACE over 9P",
    "tmpfile": "O_TMPFILE over 9P",
    "fallocate": "fallocate(2) over 9P",
    **{name: f"the message {name}" for name in BY_NAME if name.startswith("T")},
}
"""Feature name -> what it is, as an `undrivable: ...` verdict says it."""
