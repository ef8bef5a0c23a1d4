"""Runs inside a guest, as root: a PCI function taken from the kernel, driven from user space, and returned usable.

One file, standard library only, for Python 3.8 and later; types are for the checker alone. It reads lines from standard
input: first the mount tag of the device in base64, then lines of operations in base64. It does them in order and
answers each line with a line of results. Long lines are compressed by zlib and begin with `*`. An answer that begins
with `!` is an error; `?` means that an operation timed out and those after it were not done. `guest_pci` is the other
end.

Linux's rules that it keeps: bus mastering is enabled after the driver is unbound, which disables it. Before the
function is returned, INTx is enabled again and the function disabled, because a driver that binds to an enabled
function waits for an interrupt forever.
"""

from __future__ import annotations

import base64
import ctypes
import glob
import mmap
import os
import struct
import sys
import time
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

HUGE = 2 << 20
PAGES = 8
MAP_HUGETLB = 0x40000
DRIVER = "/sys/bus/pci/drivers/virtio-pci"
RESERVED = "/proc/sys/vm/nr_hugepages"
COMMAND, INTX_OFF = 4, 0x400
OPERATION = struct.Struct("<BBQI")
"""kind, width or region, address, length or value."""
SPAN = struct.Struct("<QI")
"""Address and length of a piece of memory; writes (1: the number of bytes stands in place of the address) and reads
(2) are followed by so many of them."""
TURNS = struct.Struct("<QQQHHHHIQH")
"""A sequence of requests on a split ring, each after the reply to the one before: addresses of the available ring's
first entry, of its index and of the used index; both indices now; the ring's size; how many; milliseconds for each;
where its doorbell is, and what is written there. The heads follow, two bytes each."""
PACKED_FROM = 16384
"""Bytes from which on it is cheaper to pack a line than to carry it: a case's whole memory is mostly one value."""
CODES = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
TYPES = {1: ctypes.c_uint8, 2: ctypes.c_uint16, 4: ctypes.c_uint32}


def put(path: str, text: str) -> None:
    """Write `text` to a file of /proc or /sys."""
    with open(path, "w") as f:
        f.write(text)


def huge_pages() -> int:
    """The number of huge pages that the kernel has reserved."""
    with open(RESERVED) as f:
        return int(f.read())


def find(tag: bytes) -> str:
    """The function whose 9P device has that mount tag."""
    for path in glob.glob("/sys/bus/pci/devices/*/virtio*/mount_tag"):
        with open(path, "rb") as f:
            if f.read().rstrip(b"\0\n") == tag:
                return path.split("/")[5]
    raise SystemExit(f"no virtio-9p device with tag {tag!r} is bound to virtio-pci")


class Memory:
    """Huge pages that are adjacent in physical memory and do not move."""

    def __init__(self) -> None:
        self.before = huge_pages()
        put(RESERVED, str(max(PAGES, self.before)))
        count = min(PAGES, huge_pages())
        if not count:
            raise SystemExit("the guest has no free huge page")
        self.map = mmap.mmap(-1, count * HUGE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_HUGETLB)
        where = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        physical = []
        with open("/proc/self/pagemap", "rb") as f:
            for page in range(count):
                self.map[page * HUGE] = 0
                f.seek((where + page * HUGE) // 4096 * 8)
                physical.append((struct.unpack("<Q", f.read(8))[0] & (1 << 55) - 1) * 4096)
        best = (0, 0, 1)
        for begin in range(count):
            for step in (1, -1):  # the kernel may allocate pages downwards
                length = 1
                while begin + length < count and physical[begin + length] == physical[begin] + step * length * HUGE:
                    length += 1
                if length > best[1]:
                    best = (begin, length, step)
        begin, length, step = best
        self.size = length * HUGE
        self.base = physical[begin if step > 0 else begin + length - 1]
        self.places = [page * HUGE for page in range(begin, begin + length)][::step]
        """Where in the map each page of the range lies."""
        self.view = memoryview(self.map)
        self.words: dict[int, ctypes.c_uint16] = {}

    def pieces(self, address: int, length: int) -> Iterator[tuple[int, int]]:
        """(offset in the map, bytes) of a physical range."""
        at = address - self.base
        if not 0 <= at <= self.size - length:
            raise ValueError(f"{length} bytes at {address:#x} are not ours")
        while length:
            page, inside = divmod(at, HUGE)
            now = min(length, HUGE - inside)
            yield self.places[page] + inside, now
            at, length = at + now, length - now

    def scatter(self, spans: Iterable[Sequence[int]], data: bytes) -> None:
        """Write `data`, piece after piece, to the (address, length) in `spans`."""
        view, places, base, size, done = self.view, self.places, self.base, self.size, 0
        for address, length in spans:
            at = address - base
            inside = at & HUGE - 1
            if 0 <= at < size and inside + length <= HUGE:
                at = places[at >> 21] + inside
                view[at : at + length] = data[done : done + length]
                done += length
            else:
                for at, now in self.pieces(address, length):
                    view[at : at + now] = data[done : done + now]
                    done += now

    def gather(self, spans: Iterable[Sequence[int]]) -> bytes:
        """The bytes at the (address, length) in `spans`."""
        found: list[memoryview] = []
        view, places, base, size = self.view, self.places, self.base, self.size
        for address, length in spans:
            at = address - base
            inside = at & HUGE - 1
            if 0 <= at < size and inside + length <= HUGE:
                at = places[at >> 21] + inside
                found.append(view[at : at + length])
            else:
                found += [view[at : at + now] for at, now in self.pieces(address, length)]
        return b"".join(found)

    def word(self, address: int) -> ctypes.c_uint16:
        """The word there, to read and write through its `value`."""
        word = self.words.get(address)
        if word is None:
            if len(self.words) > 4096:
                self.words.clear()
            ((offset, _),) = self.pieces(address, 2)
            word = self.words[address] = ctypes.c_uint16.from_buffer(self.map, offset)
        return word


class Late(Exception):
    """An expected change did not come in time."""


class Function:
    """The PCI function, taken from its driver."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.path = "/sys/bus/pci/devices/" + name
        self.bars: dict[int, tuple[int, mmap.mmap | None]] = {}
        put(DRIVER + "/unbind", name)
        put(self.path + "/enable", "1")
        self.config = os.open(self.path + "/config", os.O_RDWR)
        command = self.config_read(COMMAND, 2)
        self.config_write(COMMAND, 2, command | 7 | INTX_OFF)
        with open(self.path + "/resource") as f:
            self.resources = [[int(word, 16) for word in line.split()] for line in f]

    def config_read(self, offset: int, width: int) -> int:
        return int(struct.unpack(CODES[width], os.pread(self.config, width, offset))[0])

    def config_write(self, offset: int, width: int, value: int) -> None:
        os.pwrite(self.config, struct.pack(CODES[width], value), offset)

    def bar(self, number: int) -> tuple[int, mmap.mmap | None]:
        """How to access a region: a descriptor (I/O), or a map (memory) with the descriptor -1."""
        if number not in self.bars:
            start, end, flags = self.resources[number]
            handle = os.open(self.path + f"/resource{number}", os.O_RDWR | os.O_SYNC)
            if flags & 0x100:
                self.bars[number] = (handle, None)
            else:
                self.bars[number] = (-1, mmap.mmap(handle, end - start + 1))
                os.close(handle)
        return self.bars[number]

    def bar_read(self, number: int, offset: int, width: int) -> int:
        handle, mapped = self.bar(number)
        if mapped is None:
            return int(struct.unpack(CODES[width], os.pread(handle, width, offset))[0])
        return int(TYPES[width].from_buffer(mapped, offset).value)

    def bar_write(self, number: int, offset: int, width: int, value: int) -> None:
        handle, mapped = self.bar(number)
        if mapped is None:
            os.pwrite(handle, struct.pack(CODES[width], value), offset)
        else:
            TYPES[width].from_buffer(mapped, offset).value = value

    def give_back(self) -> None:
        """Return it to the kernel's driver. The caller has reset the device."""
        self.config_write(COMMAND, 2, self.config_read(COMMAND, 2) & ~(INTX_OFF | 4))
        os.close(self.config)
        put(self.path + "/enable", "0")
        put(DRIVER + "/bind", self.name)


def wait(memory: Memory, address: int, old: int, steps: int, seconds: float) -> int:
    """The word at `address` when it is not `old`, -1 when the time is over.

    The word is a counter: up to `steps` of its steps are awaited while they come quickly.
    """
    word = memory.word(address)
    deadline = time.monotonic() + seconds
    turns = 0
    while word.value == old:
        turns += 1
        if turns > 50:
            time.sleep(0.0001)
            if time.monotonic() > deadline:
                return -1
    seen = word.value
    turns = 0
    while (seen - old) & 0xFFFF < steps and turns < 20:
        turns += 1
        time.sleep(0.0002)
        if word.value != seen:
            seen, turns = word.value, 0
    return seen


def in_turn(function: Function, memory: Memory, fields: Sequence[int], heads: Sequence[int]) -> None:
    """Make one chain after the other available, each after the previous one was used. Raises Late."""
    ring, index_at, used_at, published, seen, size, _, milliseconds, place, value = fields
    index, used = memory.word(index_at), memory.word(used_at)
    entries = [memory.word(ring + 2 * at) for at in range(size)]
    bar, offset, seconds = place >> 32, place & 0xFFFFFFFF, milliseconds / 1000
    handle, mapped = function.bar(bar)
    bell = struct.pack("<H", value)
    if mapped is not None:
        doorbell = ctypes.c_uint16.from_buffer(mapped, offset)
    for head in heads:
        entries[published % size].value = head
        published = (published + 1) & 0xFFFF
        index.value = published
        if mapped is None:
            os.pwrite(handle, bell, offset)
        else:
            doorbell.value = value
        for _ in range(20):
            if used.value != seen:
                break
        else:
            deadline = time.monotonic() + seconds
            while used.value == seen:
                time.sleep(0.00005)
                if time.monotonic() > deadline:
                    raise Late
        seen = (seen + 1) & 0xFFFF


def perform(batch: bytes, function: Function, memory: Memory) -> bytes:
    """Do a whole batch; returns the concatenated results."""
    said: list[bytes] = []
    at = 0
    unpack, head = OPERATION.unpack_from, OPERATION.size
    while at < len(batch):
        kind, width, address, value = unpack(batch, at)
        at += head
        if kind == 1:
            spans, at = SPAN.iter_unpack(batch[at : at + SPAN.size * value]), at + SPAN.size * value
            memory.scatter(spans, batch[at : at + address])
            at += address
        elif kind == 2:
            said.append(memory.gather(SPAN.iter_unpack(batch[at : at + SPAN.size * value])))
            at += SPAN.size * value
        elif kind == 3:
            memory.word(address).value = value
        elif kind == 4:
            memory.scatter([(address, value)], bytes([width]) * value)
        elif kind == 5:
            old, seconds = value & 0xFFFF, (value >> 16) / 1000
            said.append(struct.pack("<i", wait(memory, address, old, width, seconds)))
        elif kind == 6:
            said.append(struct.pack("<I", function.config_read(address, width)))
        elif kind == 7:
            function.config_write(address, width, value)
        elif kind == 8:
            said.append(struct.pack("<I", function.bar_read(address >> 32, address & 0xFFFFFFFF, width)))
        elif kind == 9:
            function.bar_write(address >> 32, address & 0xFFFFFFFF, width, value)
        elif kind == 10:
            fields, at = TURNS.unpack_from(batch, at), at + TURNS.size
            heads, at = struct.unpack_from(f"<{fields[6]}H", batch, at), at + 2 * fields[6]
            in_turn(function, memory, fields, heads)
    return b"".join(said)


def packed(data: bytes) -> bytes:
    """A line, without its end."""
    if len(data) < PACKED_FROM:
        return base64.b64encode(data)
    return b"*" + base64.b64encode(zlib.compress(data, 1))


def unpacked(line: bytes) -> bytes:
    """The inverse of `packed`."""
    return zlib.decompress(base64.b64decode(line[1:])) if line[:1] == b"*" else base64.b64decode(line)


def main() -> None:
    """Serve operations until an empty line comes, or the end."""
    lines, out = sys.stdin.buffer, sys.stdout.buffer
    tag = unpacked(lines.readline())
    name = find(tag)
    memory = Memory()
    function = Function(name)
    try:
        out.write(b"%d %d\n" % (memory.base, memory.size))
        out.flush()
        for line in iter(lines.readline, b""):
            batch = unpacked(line)
            if not batch:
                break
            try:
                said = packed(perform(batch, function, memory))
            except Late:
                said = b"?"
            except (OSError, ValueError, struct.error, KeyError, IndexError) as error:
                said = f"!{type(error).__name__}: {' '.join(str(error).split())}".encode()
            out.write(said + b"\n")
            out.flush()
    finally:
        function.give_back()
        put(RESERVED, str(memory.before))
        out.write(b"done\n")
        out.flush()


if __name__ == "__main__":
    main()
