"""User-Mode Linux without a guest: its command line, its memory, its kernel's build, its disks."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from guests.errors import InfrastructureError
from guests.images.initramfs import Entry, cpio
from guests.machines.uml import kernel, memory
from guests.machines.uml.memory import memory_root
from guests.machines.uml.root import control_disk, cpio_member
from guests.machines.uml.spec import Device, Host, UmlSpec, uml_argv


def host(directory: Path, tap: str = "") -> Host:
    return Host(
        kernel=directory / "linux",
        initramfs=directory / "initramfs",
        root=directory / "root",
        control=directory / "control",
        console_socket=directory / "console",
        directory=directory,
        tap=tap,
    )


def test_the_console_is_the_first_device_and_shares_follow_in_their_order() -> None:
    spec = UmlSpec(run_dir=Path("/r"), devices=(Device(Path("/s/a")), Device(Path("/s/b"), virtio_id=4)), memory_mb=99)
    argv = uml_argv(spec, host(Path("/d")))
    assert [word for word in argv if word.startswith("virtio_uml")] == [
        "virtio_uml.device=/d/console:3",
        "virtio_uml.device=/s/a:9",
        "virtio_uml.device=/s/b:4",
    ]
    assert argv[0] == "/d/linux" and "mem=99M" in argv and "ubd0r=/d/root" in argv and "ubd1=/d/control" in argv
    assert not any(word.startswith("vec0") for word in argv)
    assert any(word.startswith("vec0:transport=tap,ifname=t0") for word in uml_argv(spec, host(Path("/d"), "t0")))


@pytest.mark.parametrize("name", ["a b", "a,b", "a:b", 'a"b', "a\\b"])
def test_a_path_that_the_command_line_would_cut_is_refused(name: str) -> None:
    spec = UmlSpec(run_dir=Path("/r"), devices=(Device(Path("/s") / name),))
    with pytest.raises(InfrastructureError, match="cannot contain"):
        uml_argv(spec, host(Path("/d")))


def test_memory_goes_where_tmpdir_says_and_what_will_not_do_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    real = os.statvfs(tmp_path)
    if not real.f_flag & os.ST_NOEXEC:
        assert memory_root(1) == tmp_path
    for fields, said in (
        ({"f_flag": real.f_flag | os.ST_NOEXEC}, "noexec"),
        ({"f_flag": 0, "f_bavail": 0}, "0 MB free"),
    ):
        values = {n: getattr(real, n) for n in ("f_flag", "f_bavail", "f_frsize")} | fields
        found = type("Statvfs", (), values)
        monkeypatch.setattr(memory.os, "statvfs", lambda _path, found=found: found)  # type: ignore[attr-defined]
        with pytest.raises(InfrastructureError) as raised:
            memory_root(384)
        assert said in raised.value.message and str(tmp_path) in raised.value.message
        assert "TMPDIR" in raised.value.remedy and "384 MB" in raised.value.remedy


def test_memory_in_a_directory_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="No such file"):
        memory_root(1, tmp_path / "nowhere")


def test_missing_build_tools_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    there = shutil.which
    monkeypatch.setattr(kernel.shutil, "which", lambda name: None if name in ("flex", "xz") else there(name))  # type: ignore[attr-defined]
    assert {"flex", "xz-utils"} <= set(kernel.missing_tools())
    with pytest.raises(InfrastructureError) as raised:
        kernel.require_tools()
    assert "flex" in raised.value.message and "apt-get install" in raised.value.remedy
    assert "\n" not in str(raised.value)


def test_the_kernel_s_key_follows_the_options_and_not_the_comments(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = kernel.digest()
    text = kernel.FRAGMENT.read_text(encoding="ascii")
    changed = tmp_path / "fragment"
    monkeypatch.setattr(kernel, "FRAGMENT", changed)
    changed.write_text("# other words\n" + text, encoding="ascii")
    assert kernel.digest() == before
    changed.write_text(text.replace("CONFIG_FUSE_FS=y", "CONFIG_FUSE_FS=n"), encoding="ascii")
    assert kernel.digest() != before


def test_the_fragment_gives_no_way_to_files_of_the_host() -> None:
    options = kernel.FRAGMENT.read_text(encoding="ascii").splitlines()
    assert "CONFIG_HOSTFS=y" not in options
    assert {"CONFIG_NET_9P_VIRTIO=y", "CONFIG_VIRTIO_UML=y", "CONFIG_VIRTIO_CONSOLE=y"} <= set(options)


def test_a_failed_step_is_reported_by_the_compiler_s_own_words(tmp_path: Path) -> None:
    script = "echo starting; echo 'x.c:1: error: no such thing'; echo later; exit 2"
    with pytest.raises(InfrastructureError, match=r"x\.c:1: error: no such thing"):
        kernel._run(["sh", "-c", script], tmp_path, tmp_path / "log")
    assert "starting" in (tmp_path / "log").read_text()


def test_a_member_is_found_in_an_archive_that_we_wrote() -> None:
    one, two = Entry("bin/one", 0o100755, b"1234567"), Entry("bin/two", 0o100644, b"x" * 9)
    archive = cpio([Entry("bin", 0o040755), one, two])
    assert cpio_member(archive, "bin/one") == b"1234567"
    assert cpio_member(archive, "bin/two") == b"x" * 9
    with pytest.raises(InfrastructureError, match="has no bin/three"):
        cpio_member(archive, "bin/three")


def test_the_control_disk_is_ext4_and_sparse(tmp_path: Path) -> None:
    disk = tmp_path / "control"
    control_disk(disk, 256)
    with disk.open("rb") as file:
        file.seek(1024 + 56)
        assert file.read(2) == b"\x53\xef"  # s_magic
    found = disk.stat()
    assert found.st_size == 256 << 20 and found.st_blocks * 512 < 32 << 20
