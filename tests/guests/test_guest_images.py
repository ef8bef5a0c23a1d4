"""Building blocks of images: kernels, modules, the initramfs, the root file system, the hash of a recipe."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from guests.errors import InfrastructureError
from guests.images import further
from guests.images import recipe as recipes
from guests.images.initramfs import initramfs
from guests.images.kernel import decompress_module, extract_vmlinux, module_closure, parse_modules_dep
from guests.images.recipe import load_recipe, recipe_names
from guests.images.rootfs import Keys, read_kernel, write_root

KERNEL = b"\x7fELF" + bytes(range(256)) * 64
KEYS = Keys(b"host private", b"host public", b"client public\n", b"token")
DEP = """\
kernel/fs/9p/9p.ko: kernel/net/9p/9pnet.ko kernel/fs/netfs/netfs.ko
kernel/net/9p/9pnet.ko:
kernel/fs/netfs/netfs.ko:
kernel/net/9p/9pnet_virtio.ko: kernel/drivers/virtio/virtio.ko kernel/net/9p/9pnet.ko
kernel/drivers/virtio/virtio.ko:
kernel/drivers/block/virtio_blk.ko: kernel/drivers/virtio/virtio.ko
kernel/drivers/gpu/huge.ko:
"""


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_the_elf_kernel_comes_out_of_a_bzimage(compress: object) -> None:
    assert callable(compress)
    # A false magic comes before it, because a real setup area may hold one; padding follows.
    image = b"MZ" + b"\x1f\x8b\x08" + b"junk" * 9 + b"\xfd7zXZ\x00no" + compress(KERNEL) + b"padding"
    assert extract_vmlinux(image) == KERNEL


def test_an_elf_kernel_is_taken_as_it_is_and_anything_else_refused() -> None:
    assert extract_vmlinux(KERNEL) == KERNEL
    with pytest.raises(InfrastructureError, match="no ELF kernel"):
        extract_vmlinux(b"MZ nothing here")


def test_modules_are_decompressed_by_their_suffix() -> None:
    for name, data in (("a.ko", b"x"), ("a.ko.xz", lzma.compress(b"x")), ("a.ko.gz", gzip.compress(b"x"))):
        assert decompress_module(name, data) == b"x"


def test_a_module_comes_after_all_that_it_needs() -> None:
    order = module_closure(("9p", "9pnet-virtio", "absent"), parse_modules_dep(DEP))
    assert order.index("kernel/net/9p/9pnet.ko") < order.index("kernel/fs/9p/9p.ko")
    assert order.index("kernel/drivers/virtio/virtio.ko") < order.index("kernel/net/9p/9pnet_virtio.ko")
    assert len(order) == len(set(order)) == 5


@pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")
def test_the_initramfs_is_a_cpio_archive() -> None:
    archive = initramfs(b"#!/bin/sh\n", b"busybox", [("b.ko", b"B"), ("a.ko", b"A")])
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=archive, capture_output=True, check=True)
    assert {"init", "bin/busybox", "modules/a.ko", "modules/order"} <= set(listed.stdout.decode().split())
    order = subprocess.run(
        ["cpio", "-i", "--to-stdout", "--quiet", "modules/order"],
        input=archive,
        capture_output=True,
        check=True,
    )
    assert order.stdout == b"b.ko\na.ko\n"


def _raw_tar(usr_merged: bool) -> tarfile.TarFile:
    files = {
        "./etc/passwd": b"root:x:0:0::/root:/bin/bash\n",
        "./etc/group": b"root:x:0:\n",
        "./etc/shadow": b"root:*:1::::::\n",
        "./etc/ssh/ssh_host_rsa_key": b"not ours",
        "./usr/share/doc/x/copyright": b"long",
        "./usr/bin/busybox": b"busybox",
        "./kernel-files/boot/vmlinuz-6.1.0-1-amd64": b"vmlinuz",
        "./kernel-files/lib/modules/6.1.0-1-amd64/modules.dep": DEP.encode(),
    }
    for line in DEP.splitlines():
        files[f"./kernel-files/lib/modules/6.1.0-1-amd64/{line.partition(':')[0]}"] = b"module"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        lib = tarfile.TarInfo("./lib")
        lib.type, lib.linkname = (tarfile.SYMTYPE, "usr/lib") if usr_merged else (tarfile.DIRTYPE, "")
        tar.addfile(lib)
        setuid = tarfile.TarInfo("./usr/bin/9mount")
        setuid.mode, setuid.size = 0o4755, 3
        tar.addfile(setuid, io.BytesIO(b"9mo"))
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return tarfile.open(fileobj=io.BytesIO(out.getvalue()))


@pytest.mark.parametrize(("usr_merged", "at"), [(True, "usr/lib/modules"), (False, "lib/modules")])
def test_the_root_file_system_is_the_tar_less_ballast_plus_ours(usr_merged: bool, at: str) -> None:
    raw = _raw_tar(usr_merged)
    kernel = read_kernel(raw)
    assert kernel.release == "6.1.0-1-amd64"
    assert [name for name, _ in kernel.boot_modules] == ["virtio.ko", "virtio_blk.ko"]
    out = io.BytesIO()
    write_root(raw, kernel, KEYS, out.write)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as root:
        _check_root(root, at)


def _check_root(root: tarfile.TarFile, at: str) -> None:
    names = set(root.getnames())
    assert f"{at}/6.1.0-1-amd64/kernel/fs/9p/9p.ko" in names
    assert f"{at}/6.1.0-1-amd64/modules.dep" in names
    assert not any("huge.ko" in name or "copyright" in name or "ssh_host_rsa" in name for name in names)
    assert root.getmember("usr/bin/9mount").mode == 0o4755
    passwd = root.extractfile("etc/passwd")
    assert passwd is not None and b"bob:x:1002:1002" in passwd.read()
    assert root.getmember("home/alice").uid == 1001
    for secret in ("etc/ssh/ssh_host_ed25519_key", "etc/assay9-token", "root/.ssh/authorized_keys"):
        assert root.getmember(secret).mode == 0o600


def test_the_default_recipe_comes_first_and_all_are_valid() -> None:
    names = recipe_names()
    assert names[0] == "debian12" and {"debian11", "debian13"} < set(names)
    assert "9mount" in load_recipe("debian11").all_packages
    assert len({load_recipe(name).digest for name in names}) == len(names)


def test_further_options_reach_mmdebstrap_for_their_image_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "mmdebstrap"
    program.write_text("#!/bin/sh\nprintf '%s|' \"$@\"\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = {}
    for name in ("debian12", "debian-testing"):
        with further.given(name):
            said[name] = subprocess.run(["mmdebstrap", "a b"], capture_output=True, text=True, check=True).stdout
    assert said["debian12"] == "a b|"
    assert said["debian-testing"] == "|".join(["a b", *further.OPTIONS["debian-testing"], ""])
    assert os.environ["PATH"] == f"{tmp_path}:/usr/bin:/bin"


def test_an_unknown_image_names_the_known_ones() -> None:
    with pytest.raises(InfrastructureError, match="debian12"):
        load_recipe("debain12")


def test_extra_packages_make_an_image_of_their_own_in_any_order() -> None:
    plain, one, other = (load_recipe("debian12", extra) for extra in ((), ("gcc", "make"), ("make", "gcc")))
    assert one.directory_name == other.directory_name != plain.directory_name


def test_the_hash_ignores_comments_and_sees_code(tmp_path: Path) -> None:
    versions = []
    for text in ('"""Doc."""\nx = 1\n', '"""Other."""\nx  =  1  # why\n', '"""Doc."""\nx = 2\n'):
        source = tmp_path / "module.py"
        source.write_text(text)
        versions.append(recipes._meaning(source))
    assert versions[0] == versions[1] != versions[2]


def test_no_recipe_or_guest_file_names_a_mirror() -> None:
    for path in [*recipes.HERE.glob("*.toml"), *recipes.GUEST_FILES.iterdir()]:
        assert "://" not in path.read_text(encoding="utf-8"), path.name
