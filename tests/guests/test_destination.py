"""SSH to a user's machine: the configuration is obeyed, host keys are checked, every refusal is one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from guests.access import connection
from guests.access.connection import connect
from guests.access.destination import Destination, parse
from guests.agent.hosts import Host, LocalHost, SshHost
from guests.agent.link import AgentLink
from guests.errors import InfrastructureError, UsageError
from tests.ssh_server import SshServer


@contextmanager
def reached(server: SshServer, *others: SshServer) -> Iterator[SshHost]:
    """The server's machine over a connection that the written configuration leads to."""
    with ExitStack() as open_:
        for one in (server, *others):
            open_.enter_context(one.running())
        host = SshHost(connect(Destination(server.alias), written(server, *others)))
        open_.callback(host.close)
        yield host


def written(*servers: SshServer) -> Path:
    file = servers[0].directory / "config"
    file.write_text("".join(server.config() for server in servers))
    return file


@pytest.mark.parametrize(
    ("text", "destination"),
    [
        ("root@192.0.2.7", Destination("192.0.2.7", "root")),
        ("vm", Destination("vm")),
        ("root@vm.example:2222", Destination("vm.example", "root", 2222)),
        ("[2001:db8::7]:22", Destination("2001:db8::7", "", 22)),
    ],
)
def test_a_destination_is_read_and_spelt(text: str, destination: Destination) -> None:
    assert parse(text, "--guest") == destination
    assert str(destination) == text


@pytest.mark.parametrize("text", ["", "root@", "-oProxyCommand=x", "a b", "vm:0", "vm:70000", "root@vm:/srv", "a;b"])
def test_what_is_no_destination_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--guest .*\[USER@\]HOST\[:PORT\] is expected"):
        parse(text, "--guest")


def test_an_alias_leads_to_the_machine(tmp_path: Path) -> None:
    with reached(SshServer(tmp_path)) as host:
        assert host.run(["printf", "%s", "two words"]).stdout == "two words"
        assert host.run("echo out; echo err >&2; exit 7").status == 7
        agent = AgentLink(host.start_agent())
        assert agent.calls.read_text("/proc/self/comm").startswith("python")
        agent.close()


def test_this_host_and_another_answer_alike(tmp_path: Path) -> None:
    with reached(SshServer(tmp_path)) as another:
        hosts: list[Host] = [LocalHost(), another]
        answers = [host.run("cat; echo e >&2; exit 3", stdin=b"in\xff") for host in hosts]
    assert answers[0] == answers[1]
    assert answers[0].stdout == "in\udcff"


def test_a_jump_host_carries_the_connection(tmp_path: Path) -> None:
    inner, jump = SshServer(tmp_path, "inner", more="  ProxyJump jump"), SshServer(tmp_path, "jump")
    with reached(inner, jump) as host:
        assert host.run(["true"]).ok
        assert jump.forwarded == [("127.0.0.1", inner.port)]
        assert jump.commands == []


def test_a_proxy_command_carries_the_connection(tmp_path: Path) -> None:
    relay = "import socket,sys,os,select;s=socket.create_connection((sys.argv[1],int(sys.argv[2])))\n"
    relay += "while True:\n for r in select.select([s,0],[],[])[0]:\n  d=os.read(r if r==0 else s.fileno(),65536)\n"
    relay += "  if not d: sys.exit()\n  s.sendall(d) if r==0 else os.write(1,d)\n"
    (tmp_path / "relay.py").write_text(relay)
    with reached(SshServer(tmp_path, more=f"  ProxyCommand python3 {tmp_path}/relay.py %h %p")) as host:
        assert host.run(["true"]).ok


def test_an_unknown_host_key_is_refused_with_the_line_to_add(tmp_path: Path) -> None:
    server = SshServer(tmp_path, known=False)
    with pytest.raises(UsageError, match="the host key of machine is unknown") as refused, reached(server):
        pass
    assert server.known_line().strip() in str(refused.value)
    assert "\n" not in str(refused.value)


def test_another_host_key_than_the_known_one_is_refused(tmp_path: Path) -> None:
    server, other = SshServer(tmp_path), SshServer(tmp_path, "other")
    with server.running():
        server.known_hosts.write_text(
            f"[127.0.0.1]:{server.port} {other.host_key.get_name()} {other.host_key.get_base64()}\n"
        )
        with pytest.raises(InfrastructureError, match="is another than the known one"):
            connect(Destination("machine"), written(server))


def test_a_refused_key_is_one_line(tmp_path: Path) -> None:
    server, other = SshServer(tmp_path), SshServer(tmp_path, "other")
    server.key_file = other.key_file
    with (
        pytest.raises(InfrastructureError, match=r"machine refuses every key of user root .*ssh -F .* machine true"),
        reached(server),
    ):
        pass


def test_a_machine_that_is_slow_to_log_in_has_refused_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SLOW", 1.0)
    server = SshServer(tmp_path, slow_login=10.0)
    with (
        pytest.raises(
            InfrastructureError, match=r"SSH to machine failed: a step took longer than 1 s — try it by hand"
        ),
        reached(server),
    ):
        pass


def test_nobody_there_is_one_line(tmp_path: Path) -> None:
    server = SshServer(tmp_path, port=1)
    with pytest.raises(
        InfrastructureError, match=r"no connection to machine \(127\.0\.0\.1 port 1\): Connection refused"
    ):
        connect(Destination("machine"), written(server))


def test_a_name_that_is_misspelt_is_answered_with_the_nearest_known_one(tmp_path: Path) -> None:
    server = SshServer(tmp_path, port=1)
    key = f"{server.host_key.get_name()} {server.host_key.get_base64()}"
    server.known_hosts.write_text(f"[debian-guest.invalid]:2222 {key}\n")
    config = written(server)
    config.write_text(config.read_text() + f"Host *\n  UserKnownHostsFile {server.known_hosts}\n")
    for wrong, right in (("machiine", "machine"), ("debain-guest.invalid", "debian-guest.invalid")):
        with pytest.raises(InfrastructureError, match=rf"no connection to {wrong} .*: did you mean '{right}'\?"):
            connect(Destination(wrong), config)


def test_a_configuration_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Hostt machine\n")
    with pytest.raises(UsageError, match=r"the SSH configuration for machine: .*config"):
        connect(Destination("machine"), tmp_path / "config")


def test_a_connection_that_is_cut_is_seen(tmp_path: Path) -> None:
    server = SshServer(tmp_path)
    with reached(server) as host:
        agent = AgentLink(host.start_agent())
        agent.calls.getpid()
        server.cut()
        with pytest.raises(InfrastructureError):
            agent.calls.getpid()
        with pytest.raises(InfrastructureError):
            host.run(["true"])
        assert not host.alive
