"""A user's description of a running share: read from the command line and the TOML file, refused with the remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from conformance.errors import UsageError
from conformance.sut.attach.attachment import attachment, outside_of
from conformance.sut.attach.facts import Facts
from conformance.sut.attach.guest_pci import AttachedDevice
from conformance.sut.attach.tables import AttachOptions, AttachTable, AttachTarget, attached
from conformance.vfs.mount_options import DEFAULT, MountOptions, in_force
from guests.access.destination import Destination
from guests.agent.shell_channel import expressed

RIGHT = {"guest": "root@192.0.2.7", "outside": "/export", "tag": "share0"}


@pytest.mark.parametrize(
    ("text", "path", "host"),
    [
        ("/export/share0/", "/export/share0", None),
        ("root@host:/export", "/export", Destination("host", "root")),
        ("host:/a:b", "/a:b", Destination("host")),
        ("me@[2001:db8::1]:/export", "/export", Destination("2001:db8::1", "me")),
    ],
)
def test_outside_is_a_path_here_or_on_another_host(text: str, path: str, host: Destination | None) -> None:
    found = outside_of(text)
    assert (found.path, found.host) == (path, host)


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        ({"guest": ""}, "--guest is missing"),
        ({"outside": ""}, "--outside is missing"),
        ({"outside": "export"}, "give the absolute PATH of the exported directory"),
        ({"outside": "host:export"}, "give the absolute PATH of the exported directory"),
        ({"outside": "root@host:export/a"}, "HOST:PATH: did you mean 'root@host:/export/a'?"),
        ({"outside": "root@host/export/a"}, "HOST:PATH: did you mean 'root@host:/export/a'?"),
        ({"tag": ""}, "--tag TAG says what the guest is to mount, --mounted DIR where"),
        ({"mounted": "/mnt/x"}, "give one of them, not both"),
        ({"tag": "", "mounted": "mnt"}, "--mounted 'mnt': give an absolute path"),
        ({"guest": "root@vm:port"}, "--guest 'root@vm:port'"),
        ({"allow": ("remont",)}, "--allow unknown word 'remont': did you mean 'remount'"),
        ({"tag": "", "mounted": "/mnt/x", "allow": ("remount",)}, "--allow remount means nothing with --mounted"),
        ({"process": "/run/x.pid"}, "--process '/run/x.pid': give pidfile:PATH, name:NAME or command:COMMAND"),
        ({"process": "name:"}, "--process 'name:': give pidfile:PATH"),
        ({"process": "nmae:x"}, "or command:COMMAND: did you mean 'name'?"),
    ],
)
def test_what_is_missing_or_wrong_is_refused(changed: dict[str, object], refusal: str) -> None:
    with pytest.raises(UsageError, match=refusal.replace("[", r"\[")):
        attachment(**{**RIGHT, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("pidfile:/run/a b.pid", "cat '/run/a b.pid'"),
        ("name:bhyve", "pgrep -o -x bhyve"),
        ("command:pgrep -f 'bhyve: vm'", "pgrep -f 'bhyve: vm'"),
    ],
)
def test_the_process_that_serves_is_named_in_three_ways(text: str, command: str) -> None:
    assert attachment(**{**RIGHT, "process": text}).process == command  # type: ignore[arg-type]


def test_the_command_line_wins_over_the_toml() -> None:
    table = AttachTable(guest="root@a", outside="/a", tag="a", control_dir="/control", implementation="bhyve")
    target = AttachTarget(name="mine", kind="attach", title="mine", attach=table)
    seen = attached(target, AttachOptions(guest="root@b", mounted="/mnt/x"))
    assert (seen.guest.host, seen.outside.path, seen.tag, seen.mounted) == ("b", "/a", "", "/mnt/x")
    assert (seen.control, seen.implementation, seen.ssh_config) == ("/control", "bhyve", None)
    assert attached(target, AttachOptions(ssh_config="/tmp/config")).ssh_config == Path("/tmp/config")


@pytest.mark.parametrize(
    ("shown", "options"),
    [
        ("rw,sync,dirsync,relatime,access=client,trans=virtio", DEFAULT),
        ("rw,relatime,dirsync,mmap,access=client,trans=virtio", MountOptions(cache="mmap")),
        ("rw,cache=f,msize=262144,access=client", MountOptions(cache="loose", msize=262144)),
        ("rw,access=user,version=9p2000.u", MountOptions(access="user", version="9p2000.u")),
    ],
)
def test_a_mount_that_is_there_is_read(shown: str, options: MountOptions) -> None:
    assert in_force(shown) == options
    assert options.contradicted_by(shown) == []


def test_a_machine_without_python_says_how_much_its_shell_makes() -> None:
    said = {"system": "Linux", "release": "6.1", "machine": "x86_64", "uid": "0", "filesystem": "ext4"}
    without, having = Facts("root@vm", "/var/tmp", said), Facts("root@vm", "/var/tmp", said | {"version": "3.11.2"})
    made, all_of_them = expressed()
    assert 30 < made < all_of_them / 2
    assert without.by_shell == f"no Python (its shell makes {made} of {all_of_them} operations)"
    assert without.by_shell in without.line() and without.by_shell in without.guest_line()
    assert having.by_shell == "" and "Python 3.11.2" in having.line()


def test_a_device_that_is_driven_in_a_guest_says_how_the_guest_is_reached() -> None:
    class There:
        attached = attachment(**RIGHT, implementation="QEMU")  # type: ignore[arg-type]
        version = "QEMU 10.0"

        def environment(self) -> dict[str, str]:
            return {"access": "SSH to root@192.0.2.7", "guest": "Linux 6.1", "target_version": "bhyve"}

    device = AttachedDevice(There)  # type: ignore[arg-type]
    assert device.surroundings() == {"access": "SSH to root@192.0.2.7", "guest": "Linux 6.1"}
    assert f"{device.name} {device.version()}" == "QEMU 10.0"
