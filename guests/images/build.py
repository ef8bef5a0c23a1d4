"""Build a guest image: mmdebstrap makes a tar of the root file system, the rest is data from data.

An image is a directory: ``vmlinux``, ``initramfs``, ``root.squashfs``, the key pair ``id_ed25519``(``.pub``),
``known_host`` (the guest's public host key), ``token`` and ``manifest.json``. It never changes again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import tarfile
import threading
import time
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guests.errors import InfrastructureError
from guests.files import require_space
from guests.images.initramfs import initramfs
from guests.images.kernel import extract_vmlinux
from guests.images.recipe import GUEST_FILES, Recipe
from guests.images.rootfs import KernelFiles, Keys, open_tar, read_kernel, read_member, write_root
from guests.processes import claimed, dying_with_parent
from guests.progress import Progress

SCRATCH_SPACE_MB = 1200
"""What mmdebstrap unpacks in its working directory (measured 0.9 GB for Debian 13)."""

_APART = (
    "unshare",
    *(() if os.geteuid() == 0 else ("--user", "--map-root-user", "--map-auto")),
    *("--mount", "--pid", "--mount-proc", "--fork", "--kill-child=KILL", "--"),
)
"""Namespaces for mmdebstrap. Killed by itself it leaves mounts and children behind (seen with 1.3.5), so its
mounts and processes are put where they end with one process. Without root it thinks itself root in there."""

BUILD_LIMIT = 1800.0
"""Seconds after which mmdebstrap is ended; a build takes about one minute with a near mirror."""


def build(recipe: Recipe, directory: Path, progress: Progress) -> None:
    """Build ``recipe`` into the empty ``directory``; raises InfrastructureError."""
    started = time.monotonic()
    raw = directory / "raw.tar"
    progress(f"image {recipe.name}: mmdebstrap {recipe.suite} (about a minute with a near mirror)")
    _mmdebstrap(recipe, raw, directory, progress)
    keys = _make_keys(directory)
    with open_tar(raw) as tar:
        progress(f"image {recipe.name}: kernel and initramfs")
        kernel = read_kernel(tar)
        (directory / "vmlinux").write_bytes(extract_vmlinux(kernel.vmlinuz))
        init = (GUEST_FILES / "initramfs-init").read_bytes()
        (directory / "initramfs").write_bytes(initramfs(init, kernel.busybox, kernel.boot_modules))
        progress(f"image {recipe.name}: squashfs root")
        packages = _package_versions(read_member(tar, "var/lib/dpkg/status").decode())
        _squash(tar, kernel, keys, directory / "root.squashfs")
    raw.unlink()
    manifest = {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_digest": recipe.digest,
        "build_id": f"{recipe.digest}-{secrets.token_hex(4)}",
        "kernel_release": kernel.release,
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": packages,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    progress(f"image {recipe.name}: built in {time.monotonic() - started:.0f} s, kernel {kernel.release}")


def _squash(tar: tarfile.TarFile, kernel: KernelFiles, keys: Keys, output: Path) -> None:
    argv = ["mksquashfs", "-", str(output), "-tar", "-comp", "lz4", "-quiet", "-noappend", "-no-progress"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tool:
        assert tool.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # its own words follow
            write_root(tar, kernel, keys, tool.stdin.write)
        _, said = tool.communicate()
    if tool.returncode != 0:
        words = said.decode(errors="replace").strip()[-300:]
        remedy = "free some space in the cache" if "space" in words else ""
        raise InfrastructureError(f"mksquashfs failed: {words}", remedy)


def _mmdebstrap(recipe: Recipe, output: Path, directory: Path, progress: Progress) -> None:
    """Run mmdebstrap with the host's own ideas of mirrors, proxies and keys: none is named here."""
    hook = f'sh {_quoted(GUEST_FILES / "fetch-kernel")} {_quoted(recipe.kernel_package)} "$1"'
    argv = ["mmdebstrap", "--mode=root", "--variant=minbase", f"--include={','.join(recipe.all_packages)}"]
    for kind in ("doc", "locale", "man", "info"):
        argv.append(f"--dpkgopt=path-exclude=/usr/share/{kind}/*")
    argv += [
        "--aptopt=Acquire::Retries 3",
        f"--customize-hook={hook}",
        "--format=tar",
        recipe.suite,
        str(output),
    ]
    # apt's own user must reach the working directory, which a cache below a home directory of mode 0700
    # would prevent: so mmdebstrap works where TMPDIR says, or in /var/tmp.
    scratch = Path(os.environ.get("TMPDIR", "/var/tmp")) / f"assay9-build-{secrets.token_hex(4)}"
    require_space(scratch.parent, SCRATCH_SPACE_MB, "unpacking the image")
    with claimed(scratch):
        scratch.mkdir()
        scratch.chmod(0o755)
        status, lines = _run_reporting(argv, {**os.environ, "TMPDIR": str(scratch)}, recipe.name, progress)
    (directory / "mmdebstrap.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if status != 0:
        raise _explained(recipe, lines)


def _run_reporting(
    argv: list[str], environment: dict[str, str], name: str, progress: Progress
) -> tuple[int, list[str]]:
    """Run mmdebstrap and report its steps; its exit status and all lines.

    When this process dies, whatever the way, all that mmdebstrap started and mounted goes with it.
    """
    lines: list[str] = []
    with subprocess.Popen(
        dying_with_parent([*_APART, *argv]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        timer = threading.Timer(BUILD_LIMIT, process.kill)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.rstrip())
                if line.startswith("I: ") and line.endswith("...\n"):
                    progress(f"image {name}: {line[3:].strip()}")
        except BaseException:
            process.kill()
            raise
        finally:
            timer.cancel()
    return process.returncode, lines


def _explained(recipe: Recipe, lines: list[str]) -> InfrastructureError:
    told = [line for line in lines if line.startswith(("E: ", "Err:", "W: ")) or "No space left" in line]
    text = "\n".join(told)
    where = told[0] if told else (lines[-1] if lines else "it said nothing")
    if "No space left" in text:
        remedy = "free some space in TMPDIR (default /var/tmp) and in the cache"
    elif "resolve" in text or "onnect" in text or "Failed to fetch" in text:
        remedy = "the package archive was not reached: check the network and the proxy of apt, then retry"
    elif "signature" in text or "NO_PUBKEY" in text:
        remedy = "install a newer debian-archive-keyring"
    else:
        remedy = f"try by hand: mmdebstrap --variant=minbase {recipe.suite} /dev/null"
    return InfrastructureError(f"mmdebstrap {recipe.suite} failed: {where[:300]}", remedy)


def _make_keys(directory: Path) -> Keys:
    """A key pair for the client and one for the guest's sshd, made for this image alone."""
    pairs = []
    for _ in range(2):
        key = Ed25519PrivateKey.generate()
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        pairs.append((private, public + b" assay9\n"))
    (host_private, host_public), (client_private, client_public) = pairs
    (directory / "known_host").write_bytes(host_public)
    (directory / "id_ed25519.pub").write_bytes(client_public)
    token = secrets.token_hex(16).encode()
    for name, secret in (("id_ed25519", client_private), ("token", token)):
        descriptor = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(secret)
    return Keys(host_private, host_public, client_public, token)


def _package_versions(status: str) -> dict[str, str]:
    """Package -> version, from /var/lib/dpkg/status."""
    versions = {}
    for block in status.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line and line[0] != " ")
        if "Package" in fields and "Version" in fields:
            versions[fields["Package"]] = fields["Version"]
    return versions


def _quoted(value: object) -> str:
    return "'" + str(value).replace("'", "'\\''") + "'"
