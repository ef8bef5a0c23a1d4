"""v86 without the emulator: what is fetched, what is missing, what a start is given; and the agent on 32 bits."""

from __future__ import annotations

import ctypes
import json
import shutil
import struct
import types
from pathlib import Path

import pytest
from click.testing import CliRunner

from guests import doctor
from guests.agent.packing import agent_source
from guests.cli import guest
from guests.errors import InfrastructureError
from guests.images.initramfs import Entry, cpio
from guests.machines.uml.root import cpio_member
from guests.machines.v86 import program, root, state
from guests.machines.v86.launch import Files, V86Launch
from guests.machines.v86.root import V86Root


def test_what_is_missing_is_one_line_before_anything_is_fetched(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program, "BIOS", Path("/no/such/bios"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(InfrastructureError) as raised:
        program.ensure_program()
    assert raised.value.message == "v86 needs nodejs, npm, seabios"
    assert raised.value.remedy == "apt-get install nodejs npm seabios"
    assert program.missing_packages(fetched=True) == ["nodejs", "seabios"], "npm only fetches"
    reported = doctor.v86()
    assert not reported.ok and not reported.needed and reported.remedy.endswith("; assay9 guest build v86")
    assert not [path for path in private_cache.iterdir() if not path.name.endswith(".lock")]


def test_a_package_that_is_not_the_known_one_is_refused_and_leaves_nothing(
    private_cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    lock = json.dumps({"packages": {"node_modules/v86": {"integrity": "sha512-another"}}})
    (tools / "npm").write_text(f"#!/bin/sh\necho '{lock}' > \"$3/package-lock.json\"\n")
    (tools / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools), prepend=":")
    monkeypatch.setattr(program, "require_host", lambda: None)
    with pytest.raises(InfrastructureError, match="is not the package that this project knows"):
        program.ensure_program()
    assert program.find_program() is None and not list(private_cache.glob("v86-program*"))


def test_the_initramfs_is_what_is_cached_and_our_own_files_behind_it(tmp_path: Path) -> None:
    (tmp_path / "modules.cpio").write_bytes(cpio([Entry("bin/busybox", 0o100755, b"box")]))
    archive = V86Root(tmp_path).initramfs()
    own = archive[(tmp_path / "modules.cpio").stat().st_size :]
    assert cpio_member(archive, "bin/busybox") == b"box"
    assert cpio_member(own, "assay9-v86") == (root.GUEST_FILES / "resident").read_bytes()
    assert cpio_member(own, "init").startswith(b"#!/bin/busybox")


def _root(directory: Path) -> V86Root:
    (directory / "manifest.json").write_text(json.dumps({"build_id": "b", "release": "r", "made_at": "t"}))
    return V86Root(directory)


@pytest.mark.parametrize(("server", "own", "seen"), [(Path("/s"), False, "/s"), (None, False, ""), (None, True, None)])
def test_a_start_names_who_answers_for_the_share(
    private_runtime: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    server: Path | None,
    own: bool,
    seen: str | None,
) -> None:
    monkeypatch.setattr(V86Launch, "_spawn", lambda self, argv, **environment: None)
    files = Files(program=Path("/p"), root=_root(tmp_path), initramfs=Path("/i"), control=Path("/c"))
    started = V86Launch(files, tmp_path / "log", 256, server=server, own_server=own, state=Path("/saved"))
    try:
        config = json.loads(Path(started.argv[-1]).read_text())
        assert config["server"] == seen and config["state"] == "/saved" and config["save"] is None
        assert config["memory_mb"] == 256 and len(config["lines"]) < 100
    finally:
        started.stop()
    assert not Path(started.argv[-1]).exists()


def test_an_emulator_that_ends_is_reported_with_its_last_words(
    private_runtime: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "node"
    broken.write_text("#!/bin/sh\necho no wasm here\nexit 7\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    files = Files(program=Path("/p"), root=_root(tmp_path), initramfs=Path("/i"), control=Path("/c"))
    started = V86Launch(files, tmp_path / "log", 256, server=None, own_server=True)
    try:
        with pytest.raises(InfrastructureError, match="v86 ended with status 7: no wasm here"):
            started.wait_ready(60.0)
    finally:
        started.stop()


def test_each_kind_of_machine_and_each_guest_has_a_state_of_its_own(
    private_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bios = tmp_path / "bios"
    bios.write_bytes(b"bios")
    monkeypatch.setattr(state, "BIOS", bios)
    made = _root(tmp_path)
    names = {
        state.state_directory(Path(where), made, memory, own_server=own)
        for where in ("/a", "/b")
        for memory in (256, 512)
        for own in (True, False)
    }
    assert len(names) == 8


def test_cleaning_removes_an_older_v86_and_keeps_this_one(private_cache: Path) -> None:
    old, current = private_cache / "v86-program-0123456789ab", program.directory()
    for directory in (old, current):
        directory.mkdir(parents=True)
    assert f"removed {old}" in CliRunner().invoke(guest, ["clean"]).output
    assert current.exists() and not old.exists()


def _agent(pointer_bytes: int, monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """The agent as loaded on a machine with pointers of that size."""
    real = struct.calcsize
    monkeypatch.setattr(struct, "calcsize", lambda text: pointer_bytes if text == "P" else real(text))
    module = types.ModuleType("agent")
    exec(compile(agent_source(), "agent.py", "exec"), module.__dict__)
    monkeypatch.undo()
    return module


def test_on_32_bits_the_agent_asks_for_times_of_64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources: arch/x86/entry/syscalls/syscall_32.tbl; struct __timespec64 of glibc 2.34."""
    narrow = _agent(4, monkeypatch)
    assert narrow.architecture("x86_64", narrow.NARROW) == "i386"
    numbers = dict(zip(narrow.CALLS, narrow.NUMBERS["i386"], strict=True))
    assert (numbers["statx"], numbers["renameat2"], numbers["syncfs"], numbers["getdents64"]) == (383, 353, 344, 220)
    assert (narrow.UTIMENSAT, narrow.FUTIMENS) == ("__utimensat64", "__futimens64")
    assert [name for name, _ in narrow.Timespec._fields_] == ["sec", "nsec", "pad"]
    assert narrow.Timespec._fields_[0][1] is ctypes.c_longlong


def test_by_statx_the_agent_sees_what_it_sees_by_stat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wide = _agent(8, monkeypatch)
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    wide.setroot(str(tmp_path))
    names = {"file": wide.stat_, "link": wide.stat_}
    for name, op in names.items():
        path = str(tmp_path / name).encode()
        assert wide.narrow_stat(path, None, 0) == op(path)
        plain = wide.lstat(path)
        assert wide.narrow_stat(path, None, wide.AT_SYMLINK_NOFOLLOW) == plain
        monkeypatch.setattr(wide, "NARROW", True)
        assert wide.identity(path) == (plain["st_mode"], plain["st_ino"], plain["st_dev"])
        monkeypatch.setattr(wide, "NARROW", False)
        assert wide.identity(path) == (plain["st_mode"], plain["st_ino"], plain["st_dev"])
    descriptor = wide.open_(str(tmp_path / "file").encode())
    assert wide.narrow_stat(b"", descriptor, wide.AT_EMPTY_PATH) == wide.fstat(descriptor)
    wide.close(descriptor)
