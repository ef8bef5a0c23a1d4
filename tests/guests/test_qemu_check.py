"""The check that a QEMU can do what the suite needs, with stand-ins for QEMUs that cannot."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import psutil
import pytest

from guests.errors import UsageError
from guests.machines.qemu.check import BACK_ENDS, MACHINE, QTEST, SHARES, require, version

QEMU = shutil.which("qemu-system-x86_64") or "qemu-system-x86_64"


def program(directory: Path, text: str) -> str:
    """A shell script in QEMU's place."""
    path = directory / "qemu"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def without(directory: Path, option: str, *words: str) -> str:
    """The system's QEMU, with these words removed from its list for that option."""
    hidden = " ".join(f"-e '{word}'" for word in words)
    return program(
        directory, f'case "$*" in *"{option} help"*) {QEMU} "$@" | grep -v {hidden};; *) exec {QEMU} "$@";; esac'
    )


def test_the_systems_own_has_all() -> None:
    require(QEMU, [*MACHINE, *SHARES, *QTEST])
    assert version(QEMU)[0].isdigit()


@pytest.mark.parametrize(
    ("option", "word", "said"),
    [
        ("-netdev", "user", "-netdev user (SSH to the guest, slirp: configure --enable-slirp)"),
        ("-device", "virtio-9p-pci", "device virtio-9p-pci (the shares, virtfs: configure --enable-virtfs)"),
        ("-device", "pvpanic-pci", "device pvpanic-pci"),
        ("-device", "virtio-blk-pci", "device virtio-blk-pci"),
        ("-accel", "tcg", "accelerator tcg"),
        ("-M", "^pc ", "machine pc"),
        ("-L", "seabios", "file bios-256k.bin (firmware of SeaBIOS: name its directory with -L)"),
    ],
)
def test_what_is_missing_is_named(option: str, word: str, said: str, tmp_path: Path) -> None:
    qemu = without(tmp_path, option, word)
    with pytest.raises(UsageError) as e:
        require(qemu, [*MACHINE, *SHARES])
    assert said in str(e.value) and "\n" not in str(e.value)
    assert str(e.value).count(";") == 1, "nothing else is missing"


def test_all_that_is_missing_is_named_one_by_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as e:
        require(without(tmp_path, "-device", "virtio-9p-pci", "virtio-blk-pci", "pvpanic"), [*MACHINE, *SHARES])
    assert all(word in str(e.value) for word in ("virtio-9p-pci", "virtio-blk-pci", "pvpanic-pci"))
    assert "virtio-net-pci" not in str(e.value)


def test_firmware_in_a_directory_of_the_users_is_found(tmp_path: Path) -> None:
    empty = tmp_path / "own"
    empty.mkdir()
    qemu = program(
        tmp_path,
        f'case "$*" in *"-L {empty}"*"-L help"*) echo {empty};; *"-L help"*) echo /none;; *) exec {QEMU} "$@";; esac',
    )
    with pytest.raises(UsageError, match=r"is without file bios-256k\.bin .*; file kvmvapic\.bin .*; file pvh\.bin"):
        require(qemu, MACHINE, ["-L", str(empty)])
    for name in ("bios-256k.bin", "kvmvapic.bin", "pvh.bin"):
        (empty / name).touch()
    with pytest.raises(UsageError, match="does not start with -L"):  # QEMU is started, and an empty BIOS is no BIOS
        require(qemu, MACHINE, ["-L", str(empty)])


def test_the_older_qemu_has_no_device_for_back_ends() -> None:
    if int(version(QEMU).split(".")[0]) >= 11:
        pytest.skip("the system's QEMU has it")
    with pytest.raises(UsageError, match=r"vhost-user-test-device-pci \(the shares' back ends: QEMU 11 or later\)"):
        require(QEMU, BACK_ENDS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("exit 0", "--version prints 'nothing'"),
        ("echo GNU something", "--version prints 'GNU something'"),
        (r"printf '\377\376\n'", "is not a QEMU"),
        ("echo oh no >&2; exit 1", "--version prints 'oh no'"),
    ],
)
def test_what_is_no_qemu_is_said_to_be_none(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        require(program(tmp_path, text), MACHINE)


def test_a_qemu_that_prints_no_utf_8_is_taken(tmp_path: Path) -> None:
    require(program(tmp_path, f"printf '\\377\\376\\n' >&2; exec {QEMU} \"$@\""), [*MACHINE, *SHARES])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-nosuch"], "-nosuch: invalid option"),
        (["-L"], "requires an argument"),
        (["-M", "pcx"], "unsupported machine"),
        (["-device", "virtio-nothing"], "virtio-nothing"),
    ],
)
def test_arguments_that_it_does_not_take_are_reported(arguments: list[str], said: str) -> None:
    with pytest.raises(UsageError, match=f"does not start with {' '.join(arguments)}: .*{said}"):
        require(QEMU, MACHINE, arguments)


@pytest.mark.parametrize("text", [f'{QEMU} "$@"', f'{QEMU} "$@" &', f'{QEMU} "$@" -daemonize', f'{QEMU} "$@" | cat'])
def test_a_script_that_starts_qemu_in_another_process_is_refused(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite could neither end QEMU nor watch its memory: it would see the script's process instead."""
    with tempfile.TemporaryDirectory(prefix="a9-") as own:  # other tests start such machines at the same time
        monkeypatch.setattr(tempfile, "tempdir", own)
        with pytest.raises(UsageError, match="starts QEMU in another process"):
            require(program(tmp_path, text), [*MACHINE, *SHARES])
        assert not [p for p in psutil.process_iter(["cmdline"]) if f"unix:{own}/" in " ".join(p.info["cmdline"] or ())]


def test_a_script_that_becomes_qemu_may_start_what_else_it_likes(tmp_path: Path) -> None:
    require(program(tmp_path, f'echo starting\nsleep 5 > /dev/null 2>&1 &\nexec {QEMU} "$@"'), [*MACHINE, *SHARES])
