"""An agent for a machine without Python: each op is a command of POSIX sh, with stat(1) of coreutils or busybox.

It answers on the caller's side like the agent on the machine, so its users need not differ. A call that no command
makes as a single system call (a descriptor, a lock, another user, a time below a second with busybox's stat) is absent,
and its case undrivable: the channel never guesses. An errno is read from the text of the command's error, in the C
locale; if the text names none, the call is absent, too.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import shlex
import stat
from collections import deque
from typing import Any

from guests.access.shell import Shell
from guests.agent.by_name import ByName  # noqa: F401 - it imports every module that declares ops
from guests.agent.payload.cases import FORGET
from guests.agent.payload.declare import OPS
from guests.agent.wire import decode
from guests.host.lines import LineChannel

_STRERROR = {os.strerror(number): name for number, name in errno.errorcode.items()}
_WHOLE = re.compile(r"\d+\.\d{9}")
_UMASK = 0o022
_STAT = "%f %i %d %h %u %g %s %o %b %t %T"
_NAMES = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "blksize", "blocks")
_STATVFS = ("f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_namemax")
SECONDS = "stat(1) of this machine shows times in whole seconds"


def expressed() -> tuple[int, int]:
    """How many of the agent's operations have a command, and how many operations there are."""
    return sum(1 for name in OPS if hasattr(ShellOps, name)), len(OPS)


class Absent(Exception):
    """No command expresses the call."""


class ShellChannel(LineChannel):
    """An agent behind a shell."""

    def __init__(self, shell: Shell) -> None:
        self._ops = ShellOps(shell)
        self._replies: deque[bytes] = deque()

    def send(self, data: bytes) -> None:
        """See LineChannel: each request is answered before this returns."""
        for line in data.splitlines():
            self._replies.append(json.dumps(self._ops.answer(json.loads(line))).encode())

    def recv_line(self, timeout: float) -> bytes:
        if not self._replies:
            raise TimeoutError("no request is open")
        return self._replies.popleft()

    def close(self) -> None:
        """See LineChannel: there is no process to end; the shell belongs to its maker."""


class ShellOps:
    """Ops by name, as commands; the methods are the ops for which there is a command."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._root = "/"
        self._limit = 30.0
        self._exact = bool(_WHOLE.fullmatch(self._run("stat -c %.9Y /").strip()))
        """Whether stat(1) shows nanoseconds."""

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request of `guests.agent.link`."""
        reply: dict[str, Any] = {"id": request["id"]}
        name, self._limit = request["op"], request.get("timeout", 30.0)
        args, kw = [decode(a) for a in request["args"]], {k: decode(v) for k, v in request["kw"].items()}
        try:
            if request.get("proc", "main") != "main" and name not in ("@spawn", "@kill", "@reap"):
                raise Absent("a further process needs Python there")
            reply["v"] = self.perform(name, args, kw)
        except Absent as error:
            reply["absent"] = f"the machine has no Python, and {error}"
        except OSError as error:
            reply["errno"], reply["text"] = errno.errorcode[error.errno or errno.EIO], error.strerror
        except TimeoutError:
            reply["hung"] = True
        changed = self._changed(name, args, kw) if "absent" not in reply else []
        if changed:
            reply["changed"] = changed
            if request.get("look"):
                names = self._below_root(changed)
                reply["seen"] = list(zip(names, self.look(names), strict=True))
        return reply

    def perform(self, name: str, args: list[Any], kw: dict[str, Any]) -> Any:
        """Run one op. Raises OSError and Absent."""
        if name in ("@spawn", "@kill", "@reap"):
            return None
        method = getattr(self, name, None) if name in OPS else None
        if method is None or kw.get("dir_fd") is not None:
            raise Absent(f"no command expresses {name}()")
        try:
            return method(*args, **kw)
        except TypeError as error:
            raise Absent(f"no command expresses {name}() with these arguments") from error

    def _changed(self, name: str, args: list[Any], kw: dict[str, Any]) -> list[str]:
        if name not in OPS:
            return []
        bound = dict(zip(OPS[name].names, args, strict=False), **kw)
        return [self._path(bound[p]) for p in OPS[name].changes if isinstance(bound.get(p), str | bytes)]

    def _below_root(self, changed: list[str]) -> list[str]:
        root, names = self._root.rstrip("/") + "/", []
        for path in changed:
            if path.startswith(root):
                name = path.removeprefix(root)
                names += [name, os.path.dirname(name.rstrip("/")) or "."]
        return list(dict.fromkeys(names))

    def _path(self, path: str | bytes) -> str:
        name = os.fsdecode(path)
        return name if name.startswith("/") or not name else os.path.join(self._root, name)

    def _quoted(self, path: str | bytes) -> str:
        name = self._path(path)
        try:
            name.encode("utf-8")
        except UnicodeEncodeError as error:
            raise Absent("a name that is not UTF-8 cannot be given to a command here") from error
        if not name or name.endswith("/") or "/./" in name or name.endswith("/."):
            raise Absent("the commands of the shell interpret such a path differently")
        return shlex.quote(name)

    def _run(self, script: str, stdin: bytes = b"") -> str:
        """The output of a script. Raises OSError for the error that it names, Absent if it names none."""
        done = self._shell.run(["/bin/sh", "-c", f"export LC_ALL=C; {script}"], self._limit, stdin)
        if done.ok:
            return done.stdout
        said = done.stderr.strip().splitlines()
        for text, name in _STRERROR.items():
            if said and said[-1].endswith(text):
                raise OSError(getattr(errno, name), text)
        raise Absent(f"the command says no errno: {said[-1] if said else f'status {done.status}'}")

    # ---- inspecting

    def _stat(self, path: str | bytes, follow: str) -> dict[str, int]:
        times = " %.9X %.9Y %.9Z" if self._exact else ""
        where = shlex.quote(self._path(path))
        return self._attributes(self._run(f"stat {follow} -c '{_STAT}{times}' -- {where}").split())

    def _attributes(self, words: list[str]) -> dict[str, int]:
        found = {"st_mode": int(words[0], 16)}
        found |= {f"st_{name}": int(word) for name, word in zip(_NAMES[1:], words[1:9], strict=True)}
        found["st_rdev"] = os.makedev(int(words[9], 16), int(words[10], 16))
        for name, word in zip(("atime", "mtime", "ctime"), words[11:], strict=False):
            seconds, _, rest = word.partition(".")
            found[f"st_{name}_ns"] = int(seconds) * 10**9 + (int(rest) if not word.startswith("-") else -int(rest))
        return found if self._exact else {**found, "absent": SECONDS}  # type: ignore[dict-item]

    def stat(self, path: str | bytes) -> dict[str, int]:
        """stat(2)."""
        return self._stat(path, "-L")

    def lstat(self, path: str | bytes) -> dict[str, int]:
        """lstat(2)."""
        return self._stat(path, "")

    def look(self, paths: list[str], kind: str = "lstat", mark: bool = False) -> list[Any]:
        """See the agent's op."""
        if kind != "lstat":
            raise Absent(f"no command shows {kind}(2)")
        return [self._or_errno(path) for path in paths]

    def _or_errno(self, path: str) -> Any:
        try:
            return self._stat(path, "")
        except OSError as error:
            return {"errno": errno.errorcode[error.errno or errno.EIO]}

    def statvfs(self, path: str | bytes) -> dict[str, Any]:
        """statvfs(3), without f_fsid and f_flag, which stat(1) shows differently."""
        seen = self._run(f"stat -f -c '%s %S %b %f %a %c %d %l' -- {shlex.quote(self._path(path))}").split()
        found: dict[str, Any] = dict(zip(_STATVFS, map(int, seen), strict=True))
        return {**found, "absent": "stat(1) does not show it as statvfs(3) does"}

    def readlink(self, path: str | bytes) -> str:
        """readlink(2)."""
        return self._run(f"readlink {self._quoted(path)}").removesuffix("\n")

    def _found(self, path: str | bytes) -> list[tuple[str, list[str]]]:
        where = shlex.quote(self._path(path) + "/.")
        script = f"find {where} -mindepth 1 -maxdepth 1 -exec stat -c '%i %f %d' {{}} ';' -print0"
        rows = [row.split("\n", 1) for row in self._run(script).split("\0") if row]
        return sorted((name.rpartition("/")[2], words.split()) for words, name in rows)

    def listdir(self, path: str | bytes) -> list[str]:
        """The names in a directory, sorted."""
        return [name for name, _ in self._found(path)]

    def scandir(self, path: str | bytes) -> list[list[Any]]:
        """See the agent's op."""
        return [row[:3] for row in self.entries(path)]

    def entries(self, path: str | bytes) -> list[list[Any]]:
        """See the agent's op."""
        return [[n, int(ino), stat.S_IFMT(int(mode, 16)), int(dev)] for n, (ino, mode, dev) in self._found(path)]

    # ---- contents

    def slurp(self, path: str | bytes, limit: int = 1 << 20) -> Any:
        """See the agent's op."""
        return _bytes(self._run(f"head -c {limit} < {shlex.quote(self._path(path))} | od -An -v -tx1"))

    def hash_file(self, path: str | bytes) -> list[Any]:
        """See the agent's op."""
        where = shlex.quote(self._path(path))
        size, digest = self._run(f"wc -c < {where} && sha256sum < {where}").split()[:2]
        return [int(size), digest]

    def create(self, path: str | bytes, data: bytes = b"", mode: int = 0o666) -> None:
        """open(O_CREAT|O_EXCL|O_WRONLY), write, close: `set -C` of the shell."""
        if mode & ~0o666:
            raise Absent("a shell creates files without these mode bits")
        self._run(f"umask {0o666 & ~mode | _UMASK:04o}; set -C; cat > {self._quoted(path)}", data)

    def overwrite(self, path: str | bytes, data: bytes) -> None:
        """open(O_WRONLY|O_TRUNC), write, close."""
        where = self._quoted(path)
        self._run(f"[ -f {where} ] || {{ stat -L {where} >/dev/null && exit 9; exit 1; }}; cat > {where}", data)

    def truncate(self, path: str | bytes, length: int) -> None:
        """truncate(2) of an existing file."""
        where = self._quoted(path)
        self._run(f"stat -L {where} >/dev/null && truncate -c -s {length} {where}")

    def read_text(self, path: str | bytes) -> str:
        """A file of /proc or /sys."""
        return self._run(f"cat {self._quoted(path)}")

    def write_text(self, path: str | bytes, text: str) -> None:
        """Write a file, creating it if necessary."""
        self._run(f"cat > {self._quoted(path)}", text.encode())

    # ---- names

    def mkdir(self, path: str | bytes, mode: int = 0o777) -> None:
        """mkdir(2)."""
        if mode & ~0o777:
            raise Absent("mkdir(1) sets these mode bits by a second call")
        self._run(f"umask {0o777 & ~mode | _UMASK:04o}; mkdir {self._quoted(path)}")

    def rmdir(self, path: str | bytes) -> None:
        """rmdir(2)."""
        self._run(f"rmdir {self._quoted(path)}")

    def unlink(self, path: str | bytes) -> None:
        """unlink(2)."""
        self._run(f"unlink {self._quoted(path)}")

    def rename(self, path: str | bytes, other: str | bytes) -> None:
        """rename(2), within the case's directory and one file system: elsewhere mv(1) copies and removes the source."""
        below = self._root.rstrip("/") + "/"
        if not all(self._path(name).startswith(below) and "/../" not in self._path(name) for name in (path, other)):
            raise Absent("mv(1) copies from one file system to another, which rename(2) refuses")
        source, target = self._quoted(path), self._quoted(other)
        beside = shlex.quote(os.path.dirname(self._path(other)))
        before = self._run(f"stat -c '%d %i' -- {source} && stat -L -c '%d %i' -- {beside}").split()
        if before[0] != before[2]:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        self._run(f"mv -f -T {source} {target}")
        if self._run(f"stat -c '%d %i' -- {target}").split() != before[:2]:
            raise Absent("mv(1) copied the file")

    def link(self, path: str | bytes, other: str | bytes) -> None:
        """link(2) to a free name."""
        self._run(f"{self._free(other)}; ln {self._quoted(path)} {self._quoted(other)}")

    def symlink(self, target: str | bytes, path: str | bytes) -> None:
        """symlink(2) at a free name."""
        self._run(f"{self._free(path)}; ln -s -- {shlex.quote(os.fsdecode(target))} {self._quoted(path)}")

    def mkfifo(self, path: str | bytes, mode: int = 0o666) -> None:
        """mkfifo(3)."""
        if mode & ~0o666:
            raise Absent("mkfifo(1) sets these mode bits by a second call")
        self._run(f"umask {0o666 & ~mode | _UMASK:04o}; mkfifo {self._quoted(path)}")

    def _free(self, path: str | bytes) -> str:
        where = self._quoted(path)
        return f"if [ -e {where} ] || [ -L {where} ]; then echo ': File exists' >&2; exit 1; fi"

    def chmod(self, path: str | bytes, mode: int) -> None:
        """chmod(2): five digits, because chmod(1) otherwise keeps set-id bits of directories."""
        self._run(f"chmod {mode:05o} {self._quoted(path)}")

    def chown(self, path: str | bytes, uid: int, gid: int) -> None:
        """chown(2)."""
        self._run(f"chown {_owner(uid, gid)} {self._quoted(path)}")

    def lchown(self, path: str | bytes, uid: int, gid: int) -> None:
        """lchown(2)."""
        self._run(f"chown -h {_owner(uid, gid)} {self._quoted(path)}")

    def rmtree(self, path: str | bytes) -> None:
        """Remove a tree."""
        self._run(f"rm -rf {self._quoted(path)}")

    # ---- the machine, cases

    def run(
        self, argv: list[str], timeout: float = 60.0, stdin: Any = b"", cwd: str | None = None, env: Any = None
    ) -> dict[str, Any]:
        """See the agent's op."""
        words = [self._path(argv[0]) if "/" in argv[0] else argv[0], *argv[1:]]
        there = shlex.quote(self._path(cwd)) if cwd is not None else "/"
        settings = ["env", "-i", *(f"{k}={v}" for k, v in env.items())] if env is not None else []
        script = f"cd {there} && exec {shlex.join([*settings, *words])}"
        done = self._shell.run(["/bin/sh", "-c", script], timeout, stdin)
        if done.status in (126, 127):
            raise Absent("a shell does not say the errno of a program that it cannot start")
        status = done.status if done.status <= 128 else 128 - done.status
        return {"status": status, "stdout": _b64(done.stdout), "stderr": _b64(done.stderr)}

    def which(self, program: str) -> str | None:
        """The path of a program."""
        done = self._shell.run(["/bin/sh", "-c", f"command -v {shlex.quote(program)}"], self._limit)
        return done.stdout.strip() or None

    def uname(self) -> list[str]:
        """uname(2)."""
        return self._run("for f in s n r v m; do uname -$f; done").splitlines()

    def mounts(self) -> list[list[str]]:
        """See the agent's op."""
        return [line.split()[:4] for line in self._run("cat /proc/self/mounts").splitlines()]

    def getpid(self) -> int:
        """The process id of a shell that has already ended: there is no permanent process."""
        return int(self._run("echo $$"))

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self._run(f"sleep {seconds}")

    def platform(self) -> dict[str, Any]:
        """See the agent's op; every op without a method here is absent."""
        system, _, release, _, machine = self.uname()
        able = [name for name in OPS if hasattr(self, name)]
        why = f"no Python: commands of sh express {len(able)} of {len(OPS)} ops"
        return {"system": system, "release": release, "machine": machine, "python": "", "absent": {"python": why}}

    def trace_begin(self, own: bool = False) -> bool:
        """There is no tracing."""
        return False

    def attempts(self, calls: list[list[Any]]) -> list[Any]:
        """See the agent's op."""
        return [self._attempt(name, args) for name, args in calls]

    def _attempt(self, name: str, args: list[Any]) -> Any:
        try:
            self.perform(name, args, {})
        except OSError as error:
            return {"errno": errno.errorcode[error.errno or errno.EIO]}
        return 0

    def setroot(self, path: str) -> None:
        """See the agent's op."""
        self._root = path

    def reset(self) -> None:
        """Commands leave nothing behind."""

    def fresh_root(self, path: str) -> None:
        """See the agent's op."""
        where = shlex.quote(path)
        self._run(f"rm -rf {where} && mkdir {where} && chmod 0777 {where}")
        self._root = path

    def begin_case(self, path: str, drop_caches: bool = False, remove: str | None = None, trace: bool = False) -> None:
        """See the agent's op."""
        self._root = path
        script = f"rm -rf {shlex.quote(remove)}; " if remove is not None else ""
        if drop_caches:
            script += f"sync -f {shlex.quote(path)} 2> /dev/null || sync; "
            script += "".join(f"echo {what} > /proc/sys/vm/drop_caches; " for what in FORGET)
        self._run(script + f"cd {shlex.quote(path)}")

    def end_case(self) -> None:
        """See the agent's op."""

    def drop_root(self, path: str) -> None:
        """See the agent's op."""
        self._run(f"rm -rf {shlex.quote(path)}")


def _owner(uid: int, gid: int) -> str:
    if uid in (-1, 0xFFFFFFFF) and gid in (-1, 0xFFFFFFFF):
        raise Absent("chown(1) makes no call that changes neither")
    return ("" if uid in (-1, 0xFFFFFFFF) else str(uid)) + ("" if gid in (-1, 0xFFFFFFFF) else f":{gid}")


def _bytes(dump: str) -> dict[str, str]:
    """Bytes in od(1)'s hexadecimal output, encoded for the wire."""
    return {"b64": base64.b64encode(bytes.fromhex("".join(dump.split()))).decode()}


def _b64(text: str) -> dict[str, str]:
    return {"b64": base64.b64encode(text.encode("utf-8", "surrogateescape")).decode()}
