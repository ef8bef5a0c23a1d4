"""User-Mode Linux: a real Linux guest that boots in about a second, without KVM and without root.

- ``kernel``: builds it from Debian's kernel sources, once, into the cache (``kernel.fragment`` says with what);
- ``spec`` and ``argv``: a machine as data, and its command line as a pure function;
- ``backend``, ``ring``, ``console``: a vhost-user back end that is the guest's virtio-console device, and so the
  channel to the agent;
- ``guest``: what runs in there; ``root``: its initramfs and disks; ``launch`` and ``machine``: one start of
  it, and its machine, with the same interface as QEMU's.
"""
