"""The reference server as a virtio-9p device.

- ``memory``: the guest's memory, every address checked.
- ``rings``: split and packed virtqueues, seen from the device.
- ``device``: requests out of queues into the session, replies back.

Its transport is ``reference_server.transports.vhost_user``.
"""
