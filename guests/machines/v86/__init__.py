"""A 32-bit guest under v86, an x86 emulator in JavaScript, with the same interface as QEMU's machines.

program.py   v86 itself, from npm, in the cache
root.py      the guest: Debian 12 for i386 with its stock kernel, in the cache
machine.mjs  what node runs: one machine, its lines to programs in the guest, its door to a 9P server
launch.py    one start of it, booted or restored
state.py     the machine saved once it is booted, in the cache
machine.py   the `Machine` role
"""
