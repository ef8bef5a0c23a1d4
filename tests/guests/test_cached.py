"""Cached files are checked before use: after damage of any kind they are made again, once, with one line of output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from assay9 import doctor as assay9_doctor
from guests import doctor
from guests.cache import cached as caching
from guests.cache import contents
from guests.cache.cached import Cached
from guests.errors import InfrastructureError
from guests.host import paths
from guests.images import part, store
from guests.images.store import Image
from guests.machines.qemu import private as private_qemu
from guests.machines.qemu import snapshot
from guests.machines.spec import MachineSpec
from guests.machines.uml import kernel
from guests.machines.v86 import program, root, state

pytestmark = pytest.mark.usefixtures("private_runtime", "private_cache")
BIG = 3 * contents._END


@pytest.fixture(autouse=True)
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has used nothing of the cache yet."""
    monkeypatch.setattr(caching, "_trusted", set())
    monkeypatch.setattr(caching, "_repaired", set())


class Kind:
    """One kind of cached thing; to make it, the test only writes its files."""

    def __init__(
        self, ensure: Callable[[Callable[[str], None]], Path], module: object, maker: str, files: tuple[str, ...]
    ) -> None:
        self._ensure, self.module, self.maker, self.files = ensure, module, maker, files
        self.made, self.said = 0, list[str]()

    def fill(self, directory: Path) -> None:
        """Write the files, in place of the real maker."""
        self.made += 1
        for name in self.files:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            content = json.dumps({"build_id": "b"}).encode() if name.endswith(".json") else os.urandom(BIG)
            (directory / name).write_bytes(content)

    def use(self) -> Path:
        """Use it as the first use in a new run does."""
        caching._trusted.clear()
        caching._repaired.clear()
        return self._ensure(self.said.append)


def _snapshot(progress: Callable[[str], None]) -> Path:
    spec = MachineSpec(image="debian12", run_dir=paths.cache_dir() / "run")
    image = Image("debian12", paths.images_dir() / "debian12-x")
    image.directory.mkdir(exist_ok=True)
    (image.directory / "manifest.json").write_text('{"build_id": "b"}')
    return snapshot.ensure_snapshot(spec, "tcg", image, progress)[0].directory


def _state(progress: Callable[[str], None]) -> Path:
    made = root.V86Root(paths.cache_dir() / "v86-root-x")
    made.directory.mkdir(exist_ok=True)
    (made.directory / "manifest.json").write_text('{"build_id": "b"}')
    return state.ensure_state(Path("/p"), made, 512, own_server=True, progress=progress, log=Path("/dev/null"))


@pytest.fixture(params=["image", "snapshot", "uml", "qemu11", "v86", "v86 root", "v86 state"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kind:
    kinds = {
        "image": Kind(lambda say: store.ensure_image("debian12", (), say).directory, store, "build", store.FILES),
        "snapshot": Kind(_snapshot, snapshot, "_make", ("state.qcow2",)),
        "uml": Kind(lambda say: kernel.ensure_kernel(say).directory, kernel, "_build", kernel.cached().needed),
        "qemu11": Kind(
            lambda say: private_qemu.ensure_private_qemu(say).parent,
            part,
            "_make",
            private_qemu.cached().needed,
        ),
        "v86": Kind(lambda say: program.ensure_program(say).parents[2], program, "_fetch", program.cached().needed),
        "v86 root": Kind(lambda say: root.ensure_root(say).directory, root, "_make", root.cached().needed),
        "v86 state": Kind(_state, state, "_make", state.FILES),
    }
    made = kinds[request.param]

    def fill(*given: object) -> None:
        made.fill(next(one for one in given if isinstance(one, Path) and one.name.startswith(".")))

    bios = tmp_path / "bios"
    bios.write_bytes(b"bios")
    for name in ("require_build_tools", "require_space", "require_host", "_require_tools", "require_tools"):
        monkeypatch.setattr(made.module, name, lambda *_: None, raising=False)
    monkeypatch.setattr(snapshot, "qemu_identity", lambda _: "a QEMU")
    monkeypatch.setattr(state, "BIOS", bios)
    monkeypatch.setattr(made.module, made.maker, fill)
    return made


def cut(path: Path) -> None:
    """Shorten the file, as `truncate` does."""
    os.truncate(path, path.stat().st_size // 2)


def overwrite(path: Path) -> None:
    """Replace the bytes by as many other ones."""
    path.write_bytes(os.urandom(path.stat().st_size))


def flip(path: Path) -> None:
    """Change one byte in the middle: the size and both ends stay as they are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "removed": (Path.unlink, "is gone"),
    "empty": (lambda path: os.truncate(path, 0), "has 0 bytes instead of"),
    "cut": (cut, "bytes instead of"),
    "overwritten": (overwrite, "is not what was written"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again_once_with_one_line(kind: Kind, damage: str) -> None:
    do, words = DAMAGES[damage]
    kind.use()
    for name in kind.files:
        kind.said.clear()
        before = kind.made
        do(kind.use() / name)
        assert kind.made == before, "sound, it was used as it is"
        kind.use()
        reported = [line for line in kind.said if "damaged" in line]
        assert kind.made == before + 1 and len(reported) == 1 and name in reported[0] and words in reported[0]
        kind.use()
        assert kind.made == before + 1


def test_what_no_size_shows_is_found_once_a_day(kind: Kind) -> None:
    directory = kind.use()
    name = next(name for name in kind.files if not name.endswith(".json"))
    flip(directory / name)
    kind.use()
    assert kind.made == 1, "every byte was looked at a moment ago"
    long_ago = time.time() - contents.VERIFY_AFTER - 1
    os.utime(directory / contents.VERIFIED, (long_ago, long_ago))
    kind.use()
    assert kind.made == 2 and any(f"the content of {name} is not what was written" in line for line in kind.said)


def test_a_stamp_from_the_future_is_believed_of_nothing(kind: Kind) -> None:
    directory = kind.use()
    flip(directory / next(name for name in kind.files if not name.endswith(".json")))
    ahead = time.time() + 1000
    os.utime(directory / contents.VERIFIED, (ahead, ahead))
    kind.use()
    assert kind.made == 2


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"format": 1}', '{"format": 2, "files": {}, "links": {}}'])
def test_a_list_of_contents_that_says_nothing_is_damage(kind: Kind, text: str) -> None:
    (kind.use() / contents.CONTENTS).write_text(text)
    kind.use()
    assert kind.made == 2 and any("contents.json" in line for line in kind.said)


def test_what_an_earlier_version_made_is_taken_over_and_checked_from_then_on(kind: Kind) -> None:
    directory = kind.use()
    (directory / contents.CONTENTS).unlink()
    kind.use()
    assert kind.made == 1 and (directory / contents.CONTENTS).is_file()
    cut(directory / kind.files[0])
    kind.use()
    assert kind.made == 2
    (directory / contents.CONTENTS).unlink()
    (directory / kind.files[-1]).unlink()
    kind.use()
    assert kind.made == 3, "nothing is taken over from an entry without one of its files"


def test_what_is_used_again_in_the_same_run_is_not_looked_at_again(kind: Kind) -> None:
    directory = kind.use()
    flip(directory / kind.files[0])
    kind._ensure(kind.said.append)
    assert kind.made == 1


def entry() -> Cached:
    """A directory of the cache with one file."""
    return Cached("a thing", paths.cache_dir() / "thing", ("file",))


def filled(directory: Path) -> None:
    """Write the content of that directory."""
    (directory / "file").write_bytes(b"x" * BIG)


def test_damage_that_comes_back_ends_in_one_line() -> None:
    entry().ensure(filled, print)
    cut(entry().directory / "file")
    entry().doubt()
    assert entry().ensure(filled, print)
    cut(entry().directory / "file")
    entry().doubt()
    with pytest.raises(InfrastructureError, match=r"damaged again, soon after it was repaired.*may be failing"):
        entry().ensure(filled, print)


def test_damage_that_cannot_be_repaired_says_both() -> None:
    def no_network(directory: Path) -> None:
        raise InfrastructureError("the package archive was not reached", "check the network")

    entry().ensure(filled, print)
    (entry().directory / "file").unlink()
    caching._trusted.clear()
    with pytest.raises(InfrastructureError) as raised:
        entry().ensure(no_network, print)
    assert str(raised.value) == (
        "a thing in the cache is damaged (file is gone), and making it again failed: "
        "the package archive was not reached — check the network"
    )


def test_no_room_while_making_is_one_line() -> None:
    def full(directory: Path) -> None:
        raise OSError(28, "No space left on device", str(directory / "file"))

    with pytest.raises(InfrastructureError, match=r"making .*file: No space left on device .* free some space"):
        entry().ensure(full, print)
    assert not entry().directory.exists()


@pytest.mark.parametrize("what", ["a file", "an empty directory", "a dangling link"])
def test_what_stands_in_its_place_is_replaced(what: str) -> None:
    place = entry().directory
    if what == "a file":
        place.write_text("not a directory")
    elif what == "an empty directory":
        place.mkdir()
    else:
        place.symlink_to("nowhere")
    assert entry().ensure(filled, print) and entry().usable()


def test_links_and_the_right_to_execute_are_part_of_the_contents() -> None:
    def program_and_link(directory: Path) -> None:
        filled(directory)
        (directory / "file").chmod(0o755)
        (directory / "link").symlink_to("file")

    entry().ensure(program_and_link, print)
    assert entry().usable()
    (entry().directory / "file").chmod(0o644)
    assert entry().state() == "file cannot be executed"
    (entry().directory / "file").chmod(0o755)
    (entry().directory / "link").unlink()
    assert entry().state() == "the link link is gone or leads elsewhere"


def test_the_next_one_to_make_it_removes_what_a_killed_one_left() -> None:
    left = entry().directory.with_name(".thing.tmp-1")
    left.mkdir()
    (left / "raw.tar").write_bytes(b"x")
    entry().ensure(filled, print)
    assert not left.exists()


def test_a_killed_build_is_cleaned_up_by_the_next_command_that_builds(private_cache: Path, tmp_path: Path) -> None:
    """The build is killed with SIGKILL while mmdebstrap works. Another image is built next: only the claim shows it."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("mmdebstrap", "mksquashfs"):
        (tools / name).write_text("#!/bin/sh\necho I: working...; exec sleep 1000\n")
        (tools / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "assay9", "guest", "build"]
    with subprocess.Popen([*argv, "debian12"], env=environment, stderr=subprocess.PIPE, text=True) as first:
        assert first.stderr is not None
        next(line for line in first.stderr if "working" in line)
        first.send_signal(signal.SIGKILL)
    left = [*private_cache.glob("images/.*.tmp-*"), *tmp_path.glob("assay9-build-*")]
    assert len(left) == 2
    (tools / "mmdebstrap").write_text("#!/bin/sh\nexit 1\n")
    subprocess.run([*argv, "debian11"], env=environment, check=False, capture_output=True)
    assert not [path for path in left if path.exists()]


def test_the_doctor_finds_damage_and_looks_at_every_byte_on_request(private_cache: Path) -> None:
    made = Cached("image", paths.images_dir() / "debian12-0123456789ab", store.FILES)

    def make(directory: Path) -> None:
        for name in store.FILES:
            (directory / name).write_bytes(b"x" * BIG)

    made.ensure(make, print)
    assert doctor.cache(verify=False).ok and "1 entries" in doctor.cache(verify=False).detail
    flip(made.directory / "root.squashfs")
    assert doctor.cache(verify=False).ok
    found = doctor.cache(verify=True)
    assert not found.ok and not found.needed and "the content of root.squashfs is not what was written" in found.detail
    assert any(option.name == "verify" for option in assay9_doctor.doctor.params)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a read-only file system")
def test_a_read_only_cache_is_one_line(private_cache: Path) -> None:
    """The test has its own mount namespace, so that nothing stays mounted whatever happens."""
    private_cache.mkdir(parents=True)
    script = f'mount --bind {private_cache} {private_cache} && mount -o remount,ro,bind {private_cache} && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "assay9", "guest", "build", "uml"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr.count("\n") == 1 and f"{private_cache} is not writable" in done.stderr
    assert "XDG_CACHE_HOME" in done.stderr
