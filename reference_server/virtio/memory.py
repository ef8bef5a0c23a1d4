"""Guest memory, as shared by a front end.

The rule of this module: every address that a guest or a front end gives becomes a view here, or :class:`Broken`; no
other module turns a number into memory. A file that is shortened after it was mapped would end the process with SIGBUS:
only the front end, which owns the memory, can do that, not its guest.
"""

from __future__ import annotations

import itertools
import mmap
import os
import stat
from collections.abc import Sequence

from protocol.vhost_user import MemoryRegion

Span = tuple[int, int]
"""Guest-physical address and length in bytes."""
_END: tuple[Span, ...] = ((-1, 0),)
"""Behind the last span: a neighbour of nothing."""


class Broken(Exception):
    """The driver, or the front end, broke a rule of virtio.  The text names the rule."""


class Region:
    """One piece of guest memory, mapped."""

    __slots__ = ("end", "size", "start", "user", "view")

    def __init__(self, region: MemoryRegion, descriptor: int) -> None:
        """Maps it; the caller keeps ``descriptor``. Raises Broken if the file is shorter than ``region`` claims."""
        end = region.mmap_offset + region.size
        if not region.size or max(region.guest_address, region.user_address) + region.size > 1 << 64:
            raise Broken(f"a memory region of {region.size:#x} bytes at {region.guest_address:#x} cannot be")
        found = os.fstat(descriptor)
        # Beyond the end of the file lies SIGBUS, which would end every device of this process.
        if not stat.S_ISREG(found.st_mode) or found.st_size < end:
            raise Broken(f"a memory region reaches to byte {end:#x} of a file that has {found.st_size:#x}")
        try:
            # From the file's beginning, because an offset need not be a multiple of the mapping granularity.
            mapped = mmap.mmap(descriptor, end, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        except (OSError, ValueError, OverflowError) as error:
            raise Broken(f"a memory region of {region.size:#x} bytes cannot be mapped: {error}") from None
        self.view = memoryview(mapped)[region.mmap_offset : end]
        self.start = region.guest_address
        self.size = region.size
        self.end = self.start + self.size
        self.user = region.user_address


class GuestMemory:
    """All regions of one guest."""

    def __init__(self, regions: Sequence[Region] = ()) -> None:
        """Raises Broken if two of them overlap."""
        self._regions = sorted(regions, key=lambda region: region.start)
        for one, two in itertools.pairwise(self._regions):
            if two.start < one.end:
                raise Broken(f"memory regions overlap at {two.start:#x}")
        self._last = self._regions[0] if self._regions else None

    def views(self, spans: Sequence[Span]) -> list[memoryview]:
        """The memory of ``spans`` in order; neighbours in one region become one view.

        Raises Broken for what is not in the memory map.
        """
        found: list[memoryview] = []
        region = self._last
        base, end, view = (region.start, region.end, region.view) if region is not None else (0, 0, memoryview(b""))
        at, stop = spans[0][0], spans[0][0]
        # Written for chains of a hundred pages: no call for each, while they lie in the region that was found last.
        for start, count in itertools.chain(spans, _END):
            if start == stop:
                stop += count
                continue
            if base <= at and stop <= end:
                found.append(view[at - base : stop - base])
            else:
                self._add(at, stop - at, found)
            at, stop = start, start + count
        return found

    def view(self, at: int, length: int) -> list[memoryview]:
        """Like ``views`` for one span. Raises Broken."""
        region = self._last
        if region is not None and region.start <= at and at + length <= region.end:
            at -= region.start
            return [region.view[at : at + length]]
        return self.views([(at, length)])

    def _add(self, at: int, length: int, found: list[memoryview]) -> None:
        region = self._last
        if region is not None and region.start <= at and at + length <= region.end:
            offset = at - region.start
            found.append(region.view[offset : offset + length])
            return
        first, left = at, length
        while left:
            for region in self._regions:
                if region.start <= at < region.end:
                    break
            else:
                raise Broken(f"{length} bytes at {first:#x} do not lie in the guest's memory")
            self._last = region
            count = min(left, region.end - at)
            found.append(region.view[at - region.start : at - region.start + count])
            at += count
            left -= count

    def ring(self, user: int, length: int, align: int, what: str) -> memoryview:
        """Part of a ring, at the front end's address ("user address"). Raises Broken."""
        for region in self._regions:
            offset = user - region.user
            if offset >= 0 and offset + length <= region.size:
                if (region.start + offset) % align:
                    raise Broken(f"{what} at {region.start + offset:#x} is not aligned to {align}")
                return region.view[offset : offset + length]
        raise Broken(f"{what}, {length} bytes at user address {user:#x}, does not lie in the guest's memory")
