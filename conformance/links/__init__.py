"""Roads for raw 9P frames to a device or a server.

The role is `conformance.transports.base.Link`; each road is one module: `socket` (TCP and unix sockets). A case
sees none of this: it asks for a capability and drives a `conformance.raw.client.Client`.
"""

from conformance.transports.base import Capability, Link, LinkClosed, LinkTimeout

__all__ = ["Capability", "Link", "LinkClosed", "LinkTimeout"]
