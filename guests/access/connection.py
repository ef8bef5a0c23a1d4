"""Makes an SSH connection to a user's destination, as the user's own ``ssh`` would make it.

``ssh -G`` resolves a destination by the configuration: aliases, ports, users, keys, jump hosts. paramiko makes the
connection. The host key must be in a known_hosts file; no key is accepted on first use, and no password is ever
requested or sent.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import paramiko

from guests.access.destination import Destination, parse
from guests.access.ssh import SshShell
from guests.errors import InfrastructureError, UsageError
from guests.words import did_you_mean

_LIMIT = 20.0
"""Seconds in which a host must take a connection and send its banner; one that boots may not, and is tried again."""
_SLOW = 120.0
"""Seconds for each further step: the key exchange, the authentication. They cost a machine processor time,
and an emulated one has little of it."""
_KEEPALIVE = 15
"""Seconds between two signs of life, so that no router on the way forgets the connection."""
_MOST_JUMPS = 8


def connect(destination: Destination, config: Path | None = None) -> SshShell:
    """A connection to that machine, through the jump hosts that the configuration names.

    ``config`` replaces the user's configuration file, like ``ssh -F``. Raises UsageError for an unknown host key or an
    unreadable configuration, InfrastructureError if the connection fails.
    """
    beneath: list[paramiko.SSHClient] = []
    try:
        client = _connected(destination, config, beneath, depth=0)
    except BaseException:
        for one in reversed(beneath):
            one.close()
        raise
    return SshShell(_transport(client), str(destination), (client, *reversed(beneath)))


def resolve(destination: Destination, config: Path | None = None) -> Mapping[str, Sequence[str]]:
    """The SSH configuration of a destination, by lower-case keyword, as ``ssh -G`` prints it."""
    program = shutil.which("ssh")
    if program is None:
        raise InfrastructureError(
            "the program ssh is missing: it reads the SSH configuration", "install openssh-client"
        )
    argv = [program, "-G", *(["-F", str(config)] if config else [])]
    argv += ["-p", str(destination.port)] if destination.port else []
    argv += ["-l", destination.user] if destination.user else []
    done = subprocess.run(
        [*argv, "--", destination.host], capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise UsageError(f"the SSH configuration for {destination}: {lines[-1] if lines else 'cannot be read'}")
    found: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword, []).append(value)
    return found


def _connected(
    destination: Destination,
    config: Path | None,
    beneath: list[paramiko.SSHClient],
    depth: int,
    jumps: Sequence[Destination] = (),
) -> paramiko.SSHClient:
    """An authenticated connection through ``jumps``, or else those that the configuration has for the destination.

    The connections to the jump hosts are added to ``beneath``.
    """
    if depth > _MOST_JUMPS:
        raise UsageError(f"the SSH configuration for {destination}: more than {_MOST_JUMPS} jump hosts")
    said = resolve(destination, config)
    one = {keyword: values[0] for keyword, values in said.items()}
    host, port, user = one["hostname"], int(one["port"]), one["user"]
    if not jumps and one.get("proxyjump", "none") != "none":
        jumps = [parse(hop.removeprefix("ssh://"), "ProxyJump") for hop in one["proxyjump"].split(",")]
    sock: socket.socket | paramiko.Channel | paramiko.ProxyCommand
    try:
        if jumps:
            carrier = _connected(jumps[-1], config, beneath, depth + 1, jumps[:-1])
            beneath.append(carrier)
            sock = _transport(carrier).open_channel("direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=_LIMIT)
        elif one.get("proxycommand", "none") != "none":
            sock = paramiko.ProxyCommand(_expanded(one["proxycommand"], host, port, user))
        else:
            sock = socket.create_connection((host, port), timeout=_LIMIT)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, paramiko.SSHException) as error:
        near = did_you_mean(destination.host, _known_names(said, config)) if isinstance(error, socket.gaierror) else ""
        raise InfrastructureError(
            f"no connection to {destination} ({host} port {port}): {_why(error)}{near}",
            f"try it by hand: ssh {_by_hand(destination, config)} true",
        ) from error
    return _authenticated(destination, config, sock, said)


def _authenticated(
    destination: Destination,
    config: Path | None,
    sock: socket.socket | paramiko.Channel | paramiko.ProxyCommand,
    said: Mapping[str, Sequence[str]],
) -> paramiko.SSHClient:
    """Check the host's key and log in with one of the user's keys."""
    one = {keyword: values[0] for keyword, values in said.items()}
    client = paramiko.SSHClient()
    files = [*one.get("userknownhostsfile", "").split(), *one.get("globalknownhostsfile", "").split()]
    for file in map(os.path.expanduser, files):
        with contextlib.suppress(FileNotFoundError):
            client.load_system_host_keys(file)
    client.set_missing_host_key_policy(_Refuse(destination, os.path.expanduser(files[0]) if files else "known_hosts"))
    keys = [
        path for name in said.get("identityfile", ()) if (path := os.path.expanduser(name)) and os.path.exists(path)
    ]
    alias, begun = one.get("hostkeyalias", ""), time.monotonic()
    try:
        client.connect(
            alias or one["hostname"],
            22 if alias else int(one["port"]),
            one["user"],
            key_filename=keys or None,  # type: ignore[arg-type] # paramiko takes a list as well
            allow_agent=one.get("identityagent", "") != "none",
            look_for_keys=False,
            timeout=_SLOW,
            banner_timeout=_LIMIT,
            auth_timeout=_SLOW,
            sock=sock,
            transport_factory=_Patient,
        )
    except (paramiko.SSHException, OSError, EOFError) as error:
        transport = client.get_transport()
        logging_in = transport is not None and transport.is_active()
        client.close()
        wrong_host = isinstance(error, paramiko.BadHostKeyException)
        if not wrong_host and time.monotonic() - begun >= _SLOW:  # paramiko raises what it met last, not that
            slow = paramiko.SSHException(f"a step took longer than {_SLOW:.0f} s")
            raise _failed(destination, config, slow) from error
        if logging_in and isinstance(error, paramiko.SSHException) and not wrong_host:
            raise _keys_refused(destination, config, one["user"], keys, error) from error
        raise _failed(destination, config, error) from error
    except BaseException:
        client.close()
        raise
    _transport(client).set_keepalive(_KEEPALIVE)
    return client


def _transport(client: paramiko.SSHClient) -> paramiko.Transport:
    """The transport of a connected client; it ends when the client is garbage-collected."""
    transport = client.get_transport()
    assert transport is not None
    return transport


class _Patient(paramiko.Transport):
    """A connection whose key exchange may take as long as its other steps."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.handshake_timeout = _SLOW


class _Refuse(paramiko.MissingHostKeyPolicy):
    """An unknown host key ends the attempt, with the line that would make it known."""

    def __init__(self, destination: Destination, file: str) -> None:
        self._destination, self._file = destination, file

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        raise UsageError(
            f"the host key of {self._destination} is unknown ({key.fingerprint}); if it is the right one, add this "
            f"line to {self._file}: {hostname} {key.get_name()} {key.get_base64()}"
        )


def _keys_refused(
    destination: Destination, config: Path | None, user: str, keys: Sequence[str], error: Exception
) -> InfrastructureError:
    if isinstance(error, paramiko.PasswordRequiredException):
        return InfrastructureError(f"a key for {destination} has a passphrase", "give it to an agent: ssh-add")
    tried = ", ".join(["those of the agent", *keys])
    return InfrastructureError(
        f"{destination} refuses every key of user {user} ({tried})",
        f"ssh-copy-id, or IdentityFile; try it by hand: ssh {_by_hand(destination, config)} true",
    )


def _failed(destination: Destination, config: Path | None, error: Exception) -> InfrastructureError:
    if isinstance(error, paramiko.BadHostKeyException):
        return InfrastructureError(
            f"the host key of {destination} is another than the known one ({error.key.fingerprint})",
            "find out why before you remove the old one from known_hosts",
        )
    by_hand = f"try it by hand: ssh {_by_hand(destination, config)} true"
    return InfrastructureError(f"SSH to {destination} failed: {_why(error)}", by_hand)


def _known_names(said: Mapping[str, Sequence[str]], config: Path | None) -> set[str]:
    """The names of machines in the SSH configuration, known_hosts and /etc/hosts, as far as they can be read."""
    names: set[str] = set()
    with contextlib.suppress(OSError, paramiko.SSHException):
        names |= paramiko.SSHConfig.from_path(str(config or Path("~/.ssh/config").expanduser())).get_hostnames()
    for file in " ".join(said.get("userknownhostsfile", ())).split():
        with contextlib.suppress(OSError, paramiko.SSHException):
            names |= {name.partition("]")[0].lstrip("[") for name in paramiko.HostKeys(os.path.expanduser(file))}
    with contextlib.suppress(OSError):
        lines = Path("/etc/hosts").read_text(encoding="utf-8", errors="replace").splitlines()
        names |= {name for line in lines for name in line.partition("#")[0].split()[1:]}
    return {name for name in names if not name.startswith("|") and "*" not in name}


def _expanded(command: str, host: str, port: int, user: str) -> str:
    """The tokens of ProxyCommand (ssh_config(5)) that depend on the destination."""
    values = {"%%": "%", "%h": host, "%p": str(port), "%r": user}
    return re.sub("%[%hpr]", lambda found: values[found[0]], command)


def _by_hand(destination: Destination, config: Path | None) -> str:
    """The arguments of ``ssh`` for the same connection."""
    words = ["-F", str(config)] if config else []
    words += ["-p", str(destination.port)] if destination.port else []
    user = f"{destination.user}@" if destination.user else ""
    return shlex.join([*words, user + destination.host])


def _why(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {_LIMIT:.0f} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
