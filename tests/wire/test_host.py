"""Errors of the host on the export: a missing file is the target's fault, a failed create or look is not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import Finding, InfrastructureError, Undrivable
from conformance.raw.host_directory import HostDirectory


@pytest.fixture
def host(tmp_path: Path) -> HostDirectory:
    return HostDirectory(tmp_path)


def refusing(monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    """Let that call fail with the errno on the host from now on."""

    def refuse(*_args: object, **_how: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, refuse)


PREPARING: list[tuple[str, Callable[[HostDirectory], Any]]] = [
    ("chmod", lambda h: h.file(b"f")),
    ("mkdir", lambda h: h.directory(b"d")),
    ("symlink", lambda h: h.symlink(b"s", b"t")),
    ("link", lambda h: h.link(b"f", b"g")),
    ("mkfifo", lambda h: h.fifo(b"p")),
    ("mknod", lambda h: h.socket(b"s")),
    ("mknod", lambda h: h.device(b"d", 1, 3)),
    ("makedirs", lambda h: h.chain(3)),
    ("utime", lambda h: h.times(b"f", 0, 0)),
    ("lchown", lambda h: h.owner(b"f", 0, 0)),
]


@pytest.mark.parametrize(("call", "prepare"), PREPARING, ids=[call for call, _ in PREPARING])
def test_what_cannot_be_prepared_is_no_fault_of_the_target(
    host: HostDirectory, monkeypatch: pytest.MonkeyPatch, call: str, prepare: Callable[[HostDirectory], Any]
) -> None:
    refusing(monkeypatch, call, errno.ENOSPC)
    with pytest.raises(InfrastructureError, match=r"cannot be made on the host.*No space left"):
        prepare(host)


def test_device_nodes_need_root(host: HostDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing(monkeypatch, "mknod", errno.EPERM)
    with pytest.raises(Undrivable, match="host root"):
        host.device(b"d", 1, 3)


LOOKING: list[tuple[str, Callable[[HostDirectory], Any]]] = [
    ("lstat", lambda h: h.stat(b"f")),
    ("listdir", lambda h: h.names(b"f")),
    ("readlink", lambda h: h.readlink(b"f")),
    ("getxattr", lambda h: h.xattr(b"f", "user.a")),
    ("setxattr", lambda h: h.set_xattr(b"f", "user.a", b"1")),
    ("unlink", lambda h: h.unlink(b"f")),
    ("rmdir", lambda h: h.rmdir(b"f")),
    ("rename", lambda h: h.rename(b"f", b"g")),
    ("truncate", lambda h: h.truncate(b"f", 1)),
    ("open", lambda h: h.content(b"f")),
    ("open", lambda h: h.write(b"f", b"x")),
]


@pytest.mark.parametrize(("call", "look"), LOOKING, ids=[call for call, _ in LOOKING])
def test_what_is_gone_is_a_finding_that_names_it(
    host: HostDirectory, call: str, look: Callable[[HostDirectory], Any]
) -> None:
    with pytest.raises(Finding, match="b'f' does not exist on the host") as found:
        look(host)
    assert (found.value.code, found.value.values["what"]) == ("exists", "b'f'")


@pytest.mark.parametrize(
    ("call", "look"),
    [one for one in LOOKING if one[0] not in ("open", "setxattr")],
    ids=[call for call, _ in LOOKING if call not in ("open", "setxattr")],
)
def test_what_cannot_be_looked_at_is_no_fault_of_the_target(
    host: HostDirectory, monkeypatch: pytest.MonkeyPatch, call: str, look: Callable[[HostDirectory], Any]
) -> None:
    refusing(monkeypatch, call, errno.EIO)
    with pytest.raises(InfrastructureError, match=r"cannot be examined on the host.*Input/output error"):
        look(host)


def test_an_attribute_is_absent_where_the_host_says_so_and_else_not(
    host: HostDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusing(monkeypatch, "getxattr", errno.ENODATA)
    assert host.xattr(b"f", "user.a") is None
    for number in (errno.EACCES, errno.EIO, errno.ERANGE, errno.ENOMEM):
        refusing(monkeypatch, "getxattr", number)
        with pytest.raises(InfrastructureError):
            host.xattr(b"f", "user.a")
    refusing(monkeypatch, "getxattr", errno.EOPNOTSUPP)
    with pytest.raises(Undrivable, match="xattr"):
        host.xattr(b"f", "user.a")


def test_a_name_is_free_where_the_host_says_so_and_else_not(
    host: HostDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.file(b"f")
    assert host.exists(b"f") and not host.exists(b"g") and not host.exists(b"f/g")
    refusing(monkeypatch, "lstat", errno.EIO)
    with pytest.raises(InfrastructureError):
        host.exists(b"f")


def test_another_file_in_place_of_a_symbolic_link_is_a_finding(host: HostDirectory) -> None:
    host.file(b"f")
    with pytest.raises(Finding, match="not a symbolic link") as found:
        host.readlink(b"f")
    assert found.value.code == "field:mode"
