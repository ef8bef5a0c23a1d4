"""Workload `sqlite`: transfers between accounts, with a rollback journal and with WAL, and kill -9 in the middle.

The sum of all accounts never changes; what a process reported as committed is there after it was killed; SQLite's own
integrity_check finds no error. WAL needs memory shared by processes (mmap MAP_SHARED of the -shm file): on a mount
without it WAL uses an exclusive lock, and SQLite keeps that index in its own memory (https://sqlite.org/wal.html).
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import struct
import time
from typing import Any

from soak.inside.common import Context, Finding, child, digest_of, generator, main, manifest

ACCOUNTS, EACH = 200, 1000
SAID = b"failed: "
"""Comes after the last number where a process of transfers failed; eight bytes, and no number of a transfer."""


def opened(path: str, mode: str, exclusive: bool) -> sqlite3.Connection:
    """A connection in that journal mode. Raises sqlite3.Error if it cannot be set."""
    db = sqlite3.connect(path, isolation_level=None, timeout=30.0)
    try:
        if exclusive:
            db.execute("PRAGMA locking_mode = EXCLUSIVE")
        got = db.execute(f"PRAGMA journal_mode = {mode}").fetchone()[0]
        if got != mode:
            raise sqlite3.OperationalError(f"journal_mode is {got}, not {mode}")
        db.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        db.close()
        raise
    return db


def made(path: str, mode: str) -> bool:
    """Make a new database; returns whether it must be locked exclusively."""
    exclusive = False
    try:
        # closed before the files are unlinked: an open descriptor would keep the share from being unmounted
        with contextlib.closing(opened(path, mode, exclusive)) as db:
            db.execute("CREATE TABLE probe (x)")
    except sqlite3.OperationalError:
        if mode != "wal":
            raise
        for name in (path, path + "-wal", path + "-shm"):
            if os.path.exists(name):
                os.unlink(name)
        exclusive = True
    with contextlib.closing(opened(path, mode, exclusive)) as db:
        fill(db)
    return exclusive


def fill(db: sqlite3.Connection) -> None:
    """The accounts, in one transaction."""
    db.execute("BEGIN")
    db.execute("CREATE TABLE account (id INTEGER PRIMARY KEY, amount INTEGER NOT NULL)")
    db.execute("CREATE TABLE transfer (id INTEGER PRIMARY KEY, source INT, target INT, amount INT, note BLOB)")
    db.execute("CREATE INDEX by_source ON transfer (source)")
    db.executemany("INSERT INTO account VALUES (?, ?)", [(i, EACH) for i in range(ACCOUNTS)])
    db.execute("COMMIT")


def transfers(path: str, mode: str, exclusive: bool, rng: random.Random, out: int, most: int) -> None:
    """Make transfers, and report the number of each committed one, until killed or done."""
    db = opened(path, mode, exclusive)
    for _ in range(most):
        source, target, amount = rng.randrange(ACCOUNTS), rng.randrange(ACCOUNTS), rng.randrange(1, 50)
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE account SET amount = amount - ? WHERE id = ?", (amount, source))
        db.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (amount, target))
        note = bytes([amount]) * rng.randrange(1, 3000)
        number = db.execute(
            "INSERT INTO transfer (source, target, amount, note) VALUES (?, ?, ?, ?)", (source, target, amount, note)
        ).lastrowid
        db.execute("COMMIT")
        os.write(out, struct.pack("<q", number or 0))
    db.close()


def killed(context: Context, path: str, mode: str, exclusive: bool, rng: random.Random) -> int:
    """Run one process of transfers, kill it at a random moment; returns the last one reported as committed."""
    r, w = os.pipe()
    seed, after = rng.getrandbits(48), rng.uniform(0.1, context.config.get("seconds", 3.0))

    def work() -> int:
        os.close(r)
        try:
            transfers(path, mode, exclusive, generator(seed), w, 1 << 30)
        except sqlite3.Error as e:
            os.write(w, SAID + repr(e).encode())
            return 3
        return 0

    pid = child(work)
    os.close(w)
    end, last, heard = None, 0, b""
    with os.fdopen(r, "rb", 0) as pipe:
        while True:
            part = pipe.read(8 << 10)
            if not part:
                break
            heard += part
            if end is None:
                end = time.monotonic() + after  # from the first commit on
            context.alive(-1)
            if time.monotonic() >= end:
                os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    heard, _, failure = heard.partition(SAID)
    if not os.WIFSIGNALED(status):
        raise Finding(f"SQLite failed in journal mode {mode}", f"status {status}: {failure.decode()}", (path,))
    if len(heard) >= 8:
        last = struct.unpack("<q", heard[len(heard) // 8 * 8 - 8 : len(heard) // 8 * 8])[0]
    return last


def judge(path: str, mode: str, exclusive: bool, last: int) -> int:
    """Reopen the database, like the next process; returns the number of transfers in it."""
    try:
        with contextlib.closing(opened(path, mode, exclusive)) as db:
            check = [row[0] for row in db.execute("PRAGMA integrity_check")]
            total = db.execute("SELECT sum(amount) FROM account").fetchone()[0]
            newest, count = db.execute("SELECT coalesce(max(id), 0), count(*) FROM transfer").fetchone()
            wrong = db.execute(
                "SELECT count(*) FROM transfer WHERE note <> zeroblob(0) AND "
                "substr(note, 1, 1) <> substr(note, length(note), 1)"
            ).fetchone()[0]
    except sqlite3.Error as e:
        raise Finding(
            f"the database cannot be read after a kill in journal mode {mode}: {e}",
            path,
            (path, path + "-wal", path + "-journal"),
        ) from e
    if check != ["ok"]:
        raise Finding(f"integrity_check in journal mode {mode}: {check[0]}", "\n".join(check), (path,))
    if total != ACCOUNTS * EACH:
        raise Finding(f"journal mode {mode}: the accounts hold {total}, not {ACCOUNTS * EACH}", "", (path,))
    if newest < last:
        raise Finding(f"journal mode {mode}: transfer {last} was committed, {newest} is the newest", "", (path,))
    if wrong or count != newest:
        raise Finding(f"journal mode {mode}: {count} of {newest} transfers, {wrong} with a torn note", "", (path,))
    return int(newest)


def iterate(context: Context, rng: random.Random) -> dict[str, Any]:
    """Both journal modes, each killed several times."""
    ops, exclusively = 0, False
    for mode in ("delete", "wal"):
        path = os.path.join(context.root, f"{mode}.db")
        try:
            exclusive = made(path, mode)
        except sqlite3.Error as e:
            raise Finding(f"SQLite cannot make a database in journal mode {mode}: {e}", path, (path,)) from e
        exclusively = exclusively or exclusive
        count = 0
        for _ in range(context.config.get("kills", 3)):
            last = killed(context, path, mode, exclusive, rng)
            count = judge(path, mode, exclusive, last)
        ops += count
    context.look_outside("", digest_of(manifest(context.root)))
    return {"ops": ops, "wal_exclusive": exclusively}


if __name__ == "__main__":
    main(iterate)
