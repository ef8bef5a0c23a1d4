"""The suite sees without a connection whether a process listens on a socket."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from guests.host.sockets import listens


def test_a_path_that_is_bound_is_not_yet_one_that_listens(tmp_path: Path) -> None:
    path = tmp_path / "s"
    assert not listens(path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        assert path.exists() and not listens(path, os.getpid())
        server.listen(1)
        assert listens(path, os.getpid())
        with socket.socket(socket.AF_UNIX) as client:  # a client that waits is not a listener
            client.connect(os.fspath(path))
            assert listens(path)
    assert path.exists()


def test_a_socket_that_was_bound_under_another_name_counts_when_it_is_there(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.fspath(path))
        path.rename(tmp_path / "t")
        assert listens(tmp_path / "t")
