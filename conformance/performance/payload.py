"""Runs in the guest: does one kind of work in several directories in turn, and reports how long each turn took.

Standard library, Python 3.8 or later. Its one argument is JSON: `Request` in `conformance.performance.guest_side`
says what is in it, and what the JSON on standard output holds.
"""

from __future__ import annotations

import functools
import glob
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
from typing import Any, Callable

MIB = 1 << 20
WIDE = 100
"""Files of a directory, and directories of one, in a large tree."""
MARKERS = "/sys/kernel/tracing/instances/assay9*/trace_marker"
"""Where the agent of this guest records the 9P messages."""
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

    def timed(self, count: int) -> float:
        """Seconds of so many repetitions by this process."""
        begun = clock()
        for number in range(count):
            self.one(number)
        self.end()
        return clock() - begun

    def latencies(self, count: int) -> list[float]:
        """Seconds of single repetitions by this process, as `spread` sums them up."""
        self.before(count)
        seen = []
        for number in range(count):
            begun = clock()
            self.one(number)
            seen.append(clock() - begun)
        self.end()
        self.after(count)
        return spread(seen)

    def of_process(self, number: int) -> Work:
        """What process `number` works on, called in that process."""
        return self

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


class FindTree(Work):
    """Names and attributes of one directory of a large tree, and then of the next, as find(1) goes; the unit is a file.

    The tree has 10 files or a multiple of 100, in directories of 100.
    """

    def prepare(self) -> None:
        files, here = self.parameters["tree"], os.statvfs(".")
        if here.f_files and here.f_favail < files * 1.02 + 100:
            raise RuntimeError(f"its file system has room for {here.f_favail:,} more files, and the tree has {files:,}")
        for number in range(files):
            if number % WIDE == 0:
                os.makedirs(self.directory(number // WIDE))
            name = f"{self.directory(number // WIDE)}/{number % WIDE:02}"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY, 0o644))

    @staticmethod
    def directory(number: int) -> str:
        return f"tree/{number // WIDE:03}/{number % WIDE:02}"

    def begin(self) -> None:
        files = self.parameters["tree"]
        self.units = min(files, WIDE)
        self.directories = max(1, files // WIDE)
        self.next = 0
        self.order = random.Random(9)

    def one(self, number: int) -> None:
        with os.scandir(self.directory(self.next)) as entries:
            seen = [entry.stat(follow_symlinks=False).st_size for entry in entries]
        if len(seen) != self.units:
            raise RuntimeError(f"{self.directory(self.next)} lists {len(seen)} of {self.units} files")
        self.next = (self.next + 1) % self.directories


class StatTree(FindTree):
    """stat(2) of files of such a tree, in random order."""

    def begin(self) -> None:
        super().begin()
        self.units = 1

    def one(self, number: int) -> None:
        file = self.order.randrange(self.parameters["tree"])
        os.stat(f"{self.directory(file // WIDE)}/{file % WIDE:02}")


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


class Fio(Data):
    """A pattern of fio, which takes the time itself: its start is not in it."""

    def __init__(self, pattern: str, engine: str, *more: str, **parameters: int) -> None:
        super().__init__(**parameters)
        self.side = "write" if "write" in pattern else "read"
        end = ("--end_fsync=1",) if self.side == "write" else ()
        self.words = (f"--rw={pattern}", f"--ioengine={engine}", *end, *more)

    def run(self, count: int) -> dict[str, Any]:
        """What fio reports of so many blocks. It drops the file from the guest's cache first."""
        words = [f"--bs={self.block}", f"--size={self.blocks * self.block}", f"--io_size={count * self.block}"]
        argv = ["fio", "--name=bench", "--filename=data", "--thread", "--fallocate=none", "--randseed=9"]
        done = subprocess.run([*argv, *self.words, *words, "--output-format=json"], stdout=subprocess.PIPE, check=True)
        said = done.stdout.decode(errors="replace")
        found: dict[str, Any] = json.loads(said[said.index("{") :])["jobs"][0][self.side]
        if found["io_bytes"] != count * self.block:
            raise RuntimeError(f"fio moved {found['io_bytes']} of {count * self.block} bytes")
        return found

    def timed(self, count: int) -> float:
        """To a millisecond, which is fio's unit."""
        milliseconds: int = self.run(count)["runtime"]
        return max(1, milliseconds) / 1000

    def latencies(self, count: int) -> list[float]:
        """None where each block is followed by fsync(2): fio counts the two apart."""
        if "--fsync=1" in self.words:
            return []
        took = self.run(count)["clat_ns"]
        parts = [took["percentile"][part] for part in ("50.000000", "95.000000", "99.000000")]
        return [value / 1e9 for value in [*parts, took["max"]]]


class Several(Work):
    """The same work in several directories at once, each on a share of its own; the unit counts for all of them."""

    def __init__(self, works: list[Work], directories: list[str]) -> None:
        super().__init__()
        self.works, self.directories = works, directories
        self.units, self.most = works[0].units, works[0].most

    def of_process(self, number: int) -> Work:
        os.chdir(self.directories[number % len(self.works)])
        return self.works[number % len(self.works)]

    def before(self, count: int) -> None:
        for number, work in enumerate(self.works):
            self.of_process(number)
            work.before(count)

    def after(self, count: int) -> None:
        for number, work in enumerate(self.works):
            self.of_process(number)
            work.after(count)

    def close(self) -> None:
        for work in self.works:
            work.close()


WORK: dict[str, Callable[..., Work]] = {
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
    "find-tree": FindTree,
    "stat-tree": StatTree,
    "fio-read": functools.partial(Fio, "read", "psync"),
    "fio-write": functools.partial(Fio, "write", "psync"),
    "fio-random-read": functools.partial(Fio, "randread", "psync"),
    "fio-random-write": functools.partial(Fio, "randwrite", "psync"),
    "fio-sync-write": functools.partial(Fio, "write", "psync", "--fsync=1"),
    "fio-map-read": functools.partial(Fio, "read", "mmap"),
    "fio-map-write": functools.partial(Fio, "write", "mmap"),
}


class Trace:
    """Notes in the trace of the guest's 9P messages what is being done: "timed" work, or what is "around" it."""

    def __init__(self, wanted: bool) -> None:
        self.markers = [os.open(path, os.O_WRONLY) for path in glob.glob(MARKERS)] if wanted else []

    def phase(self, name: str) -> None:
        for marker in self.markers:
            os.write(marker, f"assay9 phase {name}".encode())


SILENT = Trace(False)


def turn(work: Work, count: int, processes: int, trace: Trace = SILENT) -> float:
    """Seconds that so many repetitions took, shared by processes that start together."""
    trace.phase("around")
    work.before(count)
    trace.phase("timed")
    if processes == 1 and not isinstance(work, Several):
        seconds = work.timed(count)
    else:
        waiting, start = os.pipe()
        children = []
        for child in range(processes):
            pid = os.fork()
            if pid == 0:
                os.close(start)
                try:
                    mine = work.of_process(child)
                    os.read(waiting, 1)
                    for number in range(child, count, processes):
                        mine.one(number)
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
    trace.phase("around")
    work.after(count)
    trace.phase("none")
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


def opened(request: dict[str, Any], directory: str) -> Work:
    """The work in a directory; what it works on is made there unless the directory exists."""
    work = WORK[request["work"]](**request["parameters"])
    if not os.path.isdir(directory):
        os.makedirs(directory)
        os.chdir(directory)
        work.prepare()
    os.chdir(directory)
    if not request["build"]:
        work.begin()
    return work


def main(request: dict[str, Any]) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    processes: int = request["processes"]
    trace = Trace(request["trace"])
    works: dict[str, Work] = {}
    answer: dict[str, Any] = {"counts": {}, "units": {}, "rounds": [], "latency": {}}
    for name, directory in request["places"].items():
        work = opened(request, directory)
        if request["build"]:
            continue
        if name in request["also"]:
            directories = [directory, *request["also"][name]]
            work = Several([work, *(opened(request, also) for also in directories[1:])], directories)
        works[name] = work
        answer["counts"][name] = request["counts"].get(name) or enough(work, processes, request["seconds"])
        answer["units"][name] = answer["counts"][name] * work.units
    if request["build"]:
        return answer
    names = list(works)
    for number in range(request["first"], request["first"] + request["rounds"]):
        first = number % len(names)
        seconds = {}
        for name in names[first:] + names[:first]:
            os.chdir(request["places"][name])
            seconds[name] = turn(works[name], answer["counts"][name], processes, trace)
        answer["rounds"].append(seconds)
    for name, work in works.items():
        os.chdir(request["places"][name])
        if request["latency"] and processes == 1 and name not in request["also"]:
            took = work.latencies(max(1, min(1000, answer["counts"][name])))
            answer["latency"].update({name: took} if took else {})
        work.close()
        os.chdir("/")
    return answer


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
