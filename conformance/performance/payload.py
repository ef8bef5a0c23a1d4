"""Runs in the guest: does one kind of work in several directories in turn, and reports how long each turn took.

Standard library, Python 3.8 or later. Its one argument is JSON: `Request` in `conformance.performance.guest_side`
says what is in it, and what the JSON on standard output holds.
"""

from __future__ import annotations

import io
import json
import mmap
import os
import random
import resource
import shutil
import subprocess
import sys
import tarfile
import time
from typing import Any

MIB = 1 << 20
clock = time.perf_counter


class Work:
    """One kind of work. A turn is `before` (not timed), `one` for each repetition and `end` (timed), `after`."""

    most = 20000
    """Repetitions of a turn at most."""

    def __init__(self, **parameters: int) -> None:
        self.units: float = 1
        self.parameters = parameters

    def prepare(self) -> None:
        """Make what is worked on, once, in the present directory."""

    def begin(self) -> None:
        """Open what already exists."""

    def before(self, count: int) -> None:
        pass

    def one(self, number: int) -> None:
        raise NotImplementedError

    def end(self) -> None:
        pass

    def after(self, count: int) -> None:
        pass

    def close(self) -> None:
        pass


class Stat(Work):
    """stat(2) of one file, while `held` others are open."""

    held: list[int] = []  # noqa: RUF012 - replaced, never changed

    def prepare(self) -> None:
        for number in range(self.parameters.get("open", 0)):
            open(f"held{number}", "w").close()
        open("file", "w").close()

    def begin(self) -> None:
        names = [f"held{number}" for number in range(self.parameters.get("open", 0))]
        self.held = [os.open(name, os.O_RDONLY) for name in names]

    def one(self, number: int) -> None:
        os.stat("file")

    def close(self) -> None:
        for fd in self.held:
            os.close(fd)
        self.held = []


class Create(Work):
    most = 2000

    def one(self, number: int) -> None:
        os.close(os.open(f"new{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))

    def after(self, count: int) -> None:
        for number in range(count):
            os.unlink(f"new{number}")


class Unlink(Work):
    most = 2000

    def before(self, count: int) -> None:
        for number in range(count):
            os.close(os.open(f"old{number}", os.O_CREAT | os.O_WRONLY, 0o644))

    def one(self, number: int) -> None:
        os.unlink(f"old{number}")


class Rename(Work):
    def prepare(self) -> None:
        open("a", "w").close()

    def begin(self) -> None:
        self.names = ["a", "b"]
        if not os.path.exists("a"):
            self.names.reverse()

    def one(self, number: int) -> None:
        os.rename(*self.names)
        self.names.reverse()


class Readdir(Work):
    """The names and types of a directory of so many files; the unit is a name."""

    def prepare(self) -> None:
        os.mkdir("directory")
        for number in range(self.parameters["files"]):
            os.close(os.open(f"directory/file{number:06}", os.O_CREAT | os.O_WRONLY, 0o644))

    def begin(self) -> None:
        self.units = self.parameters["files"]

    def one(self, number: int) -> None:
        with os.scandir("directory") as entries:
            listed = sum(1 for entry in entries)
        if listed != self.units:
            raise RuntimeError(f"the directory lists {listed} of {self.units} names")


class Lookup(Readdir):
    """stat(2) of files of a directory of so many, in random order."""

    def begin(self) -> None:
        self.order = random.Random(9)

    def one(self, number: int) -> None:
        os.stat(f"directory/file{self.order.randrange(self.parameters['files']):06}")


class Tree(Work):
    """A source tree: files of 4 KiB in directories; the unit is a file."""

    most = 50

    def begin(self) -> None:
        """Make the archive, in memory: nothing is left in the guest."""
        self.units = self.parameters["files"]
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as archive:
            for number in range(self.parameters["files"]):
                member = tarfile.TarInfo(f"tree/d{number % 10}/f{number}")
                member.size = 4096
                archive.addfile(member, io.BytesIO(bytes([number % 251]) * member.size))
        self.archive = made.getvalue()

    def unpack(self, directory: str) -> None:
        subprocess.run(["tar", "-xf", "-", "-C", directory], input=self.archive, check=True)


class Untar(Tree):
    def one(self, number: int) -> None:
        os.mkdir(f"t{number}")
        self.unpack(f"t{number}")

    def after(self, count: int) -> None:
        for number in range(count):
            shutil.rmtree(f"t{number}")


class Find(Tree):
    def prepare(self) -> None:
        self.begin()
        self.unpack(".")

    def one(self, number: int) -> None:
        subprocess.run(["find", "tree", "-type", "f", "-size", "+1M"], check=True)


class GitStatus(Find):
    most = 20

    def prepare(self) -> None:
        super().prepare()
        for words in (
            ["init", "-q"],
            ["add", "-A"],
            ["-c", "user.email=a@b", "-c", "user.name=a", "commit", "-qm", "a"],
        ):
            subprocess.run(["git", "-C", "tree", "-c", "safe.directory=*", *words], check=True)

    def one(self, number: int) -> None:
        words = ["git", "-C", "tree", "-c", "safe.directory=*", "status", "--porcelain"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


class Data(Work):
    """Bytes of one file; the unit is a MiB. What is read is dropped from the guest's cache before each turn."""

    flags = os.O_RDONLY

    def prepare(self) -> None:
        with open("data", "wb") as file:
            for number in range(self.parameters["mib"]):
                file.write(bytes([number % 251 + 1]) * MIB)
            file.flush()
            os.fsync(file.fileno())

    def begin(self) -> None:
        self.block = self.parameters["block"]
        self.units = self.block / MIB
        self.blocks = self.parameters["mib"] * MIB // self.block
        self.most = self.blocks
        self.order = random.Random(9)
        self.fd = os.open("data", self.flags)
        self.data = bytes(self.block)

    def before(self, count: int) -> None:
        os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        os.close(self.fd)


class Read(Data):
    def one(self, number: int) -> None:
        os.pread(self.fd, self.block, number * self.block)


class RandomRead(Data):
    def one(self, number: int) -> None:
        os.pread(self.fd, self.block, self.order.randrange(self.blocks) * self.block)


class Write(Data):
    """Write in order, and fsync(2) at the end of the turn."""

    flags = os.O_RDWR

    def one(self, number: int) -> None:
        os.pwrite(self.fd, self.data, number * self.block)

    def end(self) -> None:
        os.fsync(self.fd)


class RandomWrite(Write):
    def one(self, number: int) -> None:
        os.pwrite(self.fd, self.data, self.order.randrange(self.blocks) * self.block)


class SyncWrite(Write):
    def one(self, number: int) -> None:
        os.pwrite(self.fd, self.data, number * self.block)
        os.fsync(self.fd)


class MapRead(Data):
    def before(self, count: int) -> None:
        super().before(count)
        self.map = mmap.mmap(self.fd, 0, mmap.MAP_SHARED, mmap.PROT_READ)

    def one(self, number: int) -> None:
        self.map[number * self.block : (number + 1) * self.block]

    def after(self, count: int) -> None:
        self.map.close()


class MapWrite(Write):
    def before(self, count: int) -> None:
        super().before(count)
        self.map = mmap.mmap(self.fd, 0)

    def one(self, number: int) -> None:
        self.map[number * self.block : (number + 1) * self.block] = self.data

    def end(self) -> None:
        self.map.flush()

    def after(self, count: int) -> None:
        self.map.close()


WORK = {
    "stat": Stat,
    "lookup": Lookup,
    "create": Create,
    "unlink": Unlink,
    "rename": Rename,
    "readdir": Readdir,
    "untar": Untar,
    "find": Find,
    "git-status": GitStatus,
    "read": Read,
    "random-read": RandomRead,
    "write": Write,
    "random-write": RandomWrite,
    "sync-write": SyncWrite,
    "map-read": MapRead,
    "map-write": MapWrite,
}


def turn(work: Work, count: int, processes: int) -> float:
    """Seconds that so many repetitions took, shared by processes that start together."""
    work.before(count)
    if processes == 1:
        begun = clock()
        for number in range(count):
            work.one(number)
        work.end()
        seconds = clock() - begun
    else:
        waiting, start = os.pipe()
        children = []
        for child in range(processes):
            pid = os.fork()
            if pid == 0:
                os.close(start)
                os.read(waiting, 1)
                try:
                    for number in range(child, count, processes):
                        work.one(number)
                    os._exit(0)
                finally:
                    os._exit(1)
            children.append(pid)
        os.close(waiting)
        begun = clock()
        os.close(start)
        ended = [os.waitpid(pid, 0)[1] for pid in children]
        seconds = clock() - begun
        if any(ended):
            raise RuntimeError("a process of the work failed")
    work.after(count)
    return seconds


def enough(work: Work, processes: int, seconds: float) -> int:
    """The repetitions that take about so long, at most as many as there is work for."""
    most, count = max(work.most, processes), processes
    while True:
        took = max(turn(work, count, processes), 1e-7)
        if count >= most or took >= seconds / 2:
            return max(processes, min(most, int(count * seconds / took)))
        count = min(most, count * 4)


def spread(values: list[float]) -> list[float]:
    """Median, 95th and 99th percentile, and the largest."""
    values = sorted(values)
    return [values[min(len(values) - 1, int(len(values) * part))] for part in (0.5, 0.95, 0.99, 1)]


def latencies(work: Work, count: int) -> list[float]:
    """Seconds of single repetitions, one process."""
    work.before(count)
    seen = []
    for number in range(count):
        begun = clock()
        work.one(number)
        seen.append(clock() - begun)
    work.end()
    work.after(count)
    return spread(seen)


def main(request: dict[str, Any]) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    processes: int = request["processes"]
    works: dict[str, Work] = {}
    answer: dict[str, Any] = {"counts": {}, "units": {}, "rounds": [], "latency": {}}
    for name, directory in request["places"].items():
        work = works[name] = WORK[request["work"]](**request["parameters"])
        if not os.path.isdir(directory):
            os.makedirs(directory)
            os.chdir(directory)
            work.prepare()
        os.chdir(directory)
        work.begin()
        answer["counts"][name] = request["counts"].get(name) or enough(work, processes, request["seconds"])
        answer["units"][name] = answer["counts"][name] * work.units
    names = list(works)
    for number in range(request["first"], request["first"] + request["rounds"]):
        first = number % len(names)
        took = {}
        for name in names[first:] + names[:first]:
            os.chdir(request["places"][name])
            took[name] = turn(works[name], answer["counts"][name], processes)
        answer["rounds"].append(took)
    for name, work in works.items():
        os.chdir(request["places"][name])
        if request["latency"] and processes == 1:
            answer["latency"][name] = latencies(work, max(1, min(1000, answer["counts"][name])))
        work.close()
        os.chdir("/")
        if request["last"]:
            shutil.rmtree(request["places"][name])
    return answer


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
