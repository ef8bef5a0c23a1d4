"""Make a TAP in this network namespace, then execute the named program: tap.py NAME PROGRAM [WORD]...

An isolated Python runs it as a file, as root of the machine's own namespace; it is not visible outside. Offloads are
disabled: with them, uploads over the TAP hang (the guest's driver gets packets that it cannot handle).
Source: linux/if_tun.h, linux/ethtool.h.
"""

import ctypes
import fcntl
import os
import socket
import struct
import sys

TUNSETIFF, TUNSETPERSIST = 0x400454CA, 0x400454CB
IFF_TAP, IFF_NO_PI, IFF_UP = 2, 0x1000, 1
SIOCSIFADDR, SIOCSIFNETMASK, SIOCGIFFLAGS, SIOCSIFFLAGS, SIOCETHTOOL = 0x8916, 0x891C, 0x8913, 0x8914, 0x8946
ETHTOOL_STXCSUM, ETHTOOL_SSG, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO = 0x17, 0x19, 0x1F, 0x24, 0x2C
ADDRESS, MASK = "10.0.2.2", "255.255.255.0"


def make(name: str) -> None:
    """The TAP, up, with our address. Raises OSError."""
    word = name.encode()
    tun = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", word, IFF_TAP | IFF_NO_PI))
    fcntl.ioctl(tun, TUNSETPERSIST, 1)
    os.close(tun)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for request in (ETHTOOL_STXCSUM, ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO, ETHTOOL_SSG):
            value = ctypes.create_string_buffer(struct.pack("II", request, 0))
            try:
                fcntl.ioctl(s, SIOCETHTOOL, struct.pack("16sQ16x", word, ctypes.addressof(value)))
            except OSError:
                continue  # a kernel without this one has it off
        for request, address in ((SIOCSIFADDR, ADDRESS), (SIOCSIFNETMASK, MASK)):
            where = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(s, request, struct.pack("16s16s8x", word, where))
        flags = fcntl.ioctl(s, SIOCGIFFLAGS, struct.pack("16sH22x", word, 0))
        up = struct.unpack_from("H", flags, 16)[0] | IFF_UP
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH22x", word, up))


if __name__ == "__main__":
    make(sys.argv[1])
    os.execv(sys.argv[2], sys.argv[2:])
