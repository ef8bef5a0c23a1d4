"""Build a guest image into the cache, or find it there.

An image is a directory: ``vmlinux``, ``initramfs``, ``root.squashfs``, the key pair ``id_ed25519``(``.pub``),
``known_host`` (the guest's public host key), ``token`` and ``manifest.json``. It never changes once it is there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from guests import paths
from guests.errors import InfrastructureError
from guests.images.initramfs import initramfs
from guests.images.kernel import extract_vmlinux
from guests.images.recipe import GUEST_FILES, Recipe, load_recipe
from guests.images.rootfs import Keys, open_tar, read_kernel, write_root
from guests.locks import appearing, exclusive, require_space
from guests.progress import Progress, silent

BUILD_SPACE_MB = 2500
"""Peak use of a build: unpacked tree, its tar, the result (measured 1.4 GB for Debian 12), with some air."""

BUILD_LIMIT = 1800.0
"""Seconds after which mmdebstrap is ended; a build takes about one minute with a near mirror."""


@dataclass(frozen=True, slots=True)
class Image:
    """A built image in the cache."""

    name: str
    directory: Path

    @property
    def vmlinux(self) -> Path:
        return self.directory / "vmlinux"

    @property
    def initramfs(self) -> Path:
        return self.directory / "initramfs"

    @property
    def root(self) -> Path:
        return self.directory / "root.squashfs"

    @property
    def key(self) -> Path:
        return self.directory / "id_ed25519"

    @property
    def known_host(self) -> Path:
        return self.directory / "known_host"

    @property
    def token(self) -> Path:
        """What the resident in the guest wants to hear; see ``guests.resident``."""
        return self.directory / "token"

    @property
    def manifest(self) -> dict[str, object]:
        """What was built: recipe, kernel release, packages with versions, when."""
        loaded = json.loads((self.directory / "manifest.json").read_text(encoding="utf-8"))
        assert isinstance(loaded, dict)
        return loaded

    @property
    def digest(self) -> str:
        """Identifies this very build: two builds of one recipe differ in keys and perhaps packages."""
        return str(self.manifest["build_id"])


def find_image(recipe: Recipe) -> Image | None:
    """The cached image of ``recipe`` as it stands in this checkout, or None."""
    directory = paths.images_dir() / recipe.directory_name
    return Image(recipe.name, directory) if (directory / "manifest.json").is_file() else None


def ensure_image(
    name: str, extra_packages: Iterable[str] = (), progress: Progress = silent, rebuild: bool = False
) -> Image:
    """The image called ``name``, built first when the cache lacks it or ``rebuild`` is set."""
    recipe = load_recipe(name, tuple(extra_packages))
    found = None if rebuild else find_image(recipe)
    if found is not None:
        return found
    directory = paths.images_dir() / recipe.directory_name
    with exclusive(directory.with_name(f".{directory.name}.lock"), f"image {name}", progress):
        found = None if rebuild else find_image(recipe)
        if found is not None:
            return found
        require_build_tools()
        require_space(directory.parent, BUILD_SPACE_MB, f"building image {name}")
        with appearing(directory) as temporary:
            _build(recipe, temporary, progress)
    return Image(name, directory)


def require_build_tools() -> None:
    """Raise InfrastructureError naming in one line the packages that a build needs and this machine lacks."""
    needed = {"mmdebstrap": "mmdebstrap", "mksquashfs": "squashfs-tools"}
    if os.geteuid() != 0:
        needed["newuidmap"] = "uidmap"
    missing = sorted(package for program, package in needed.items() if shutil.which(program) is None)
    if missing:
        raise InfrastructureError(
            f"building a guest image needs {', '.join(missing)}", f"apt-get install {' '.join(missing)}"
        )
    if os.geteuid() != 0:
        problem = user_namespace_problem()
        if problem:
            raise InfrastructureError(*problem)


def user_namespace_problem() -> tuple[str, str] | None:
    """Why this user cannot build in a user namespace, with the remedy; None when it can."""
    import pwd  # noqa: PLC0415 - only here

    user = pwd.getpwuid(os.geteuid()).pw_name
    for table in (Path("/etc/subuid"), Path("/etc/subgid")):
        text = table.read_text(encoding="utf-8") if table.exists() else ""
        owners = {line.partition(":")[0] for line in text.splitlines()}
        if not owners & {user, str(os.geteuid())}:
            return (
                f"building without root needs a line for {user} in {table}",
                f"as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}",
            )
    tried = subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        return (
            "this kernel does not let ordinary users make user namespaces",
            "as root: sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000",
        )
    return None


def _build(recipe: Recipe, directory: Path, progress: Progress) -> None:
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
        packages = _package_versions(tar.extractfile("./var/lib/dpkg/status").read().decode())  # type: ignore[union-attr]
        argv = ["mksquashfs", "-", str(directory / "root.squashfs"), "-tar", "-comp", "lz4", "-quiet"]
        argv += ["-noappend", "-no-progress"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as tool:
            assert tool.stdin is not None and tool.stderr is not None
            try:
                write_root(tar, kernel, keys, tool.stdin.write)
            except BrokenPipeError:
                pass  # its own words follow
            _, said = tool.communicate()
        if tool.returncode != 0:
            raise InfrastructureError(f"mksquashfs failed: {said.decode(errors='replace').strip()[-300:]}")
    raw.unlink()
    manifest = {
        "recipe": recipe.model_dump(mode="json"),
        "recipe_digest": recipe.digest,
        "build_id": f"{recipe.digest}-{int(time.time())}",
        "kernel_release": kernel.release,
        "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "packages": packages,
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    progress(f"image {recipe.name}: built in {time.monotonic() - started:.0f} s, kernel {kernel.release}")


def _mmdebstrap(recipe: Recipe, output: Path, directory: Path, progress: Progress) -> None:
    """Run mmdebstrap with the host's own ideas of mirrors, proxies and keys: none is named here."""
    hook = f"sh {_quoted(GUEST_FILES / 'fetch-kernel')} {_quoted(recipe.kernel_package)} \"$1\""
    argv = ["mmdebstrap", "--variant=minbase", f"--include={','.join(recipe.all_packages)}"]
    for kind in ("doc", "locale", "man", "info"):
        argv.append(f"--dpkgopt=path-exclude=/usr/share/{kind}/*")
    argv += ["--aptopt=Acquire::Retries 3", f"--customize-hook={hook}", "--format=tar", recipe.suite, str(output)]
    lines: list[str] = []
    # In mmdebstrap's unshare mode another uid must reach the working directory, which a cache below a
    # home directory of mode 0700 would prevent: so it works where TMPDIR says, or in /var/tmp.
    scratch = tempfile.mkdtemp(prefix="assay9-build-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    os.chmod(scratch, 0o755)
    require_space(Path(scratch), BUILD_SPACE_MB // 2, "unpacking the image")
    environment = {**os.environ, "TMPDIR": scratch}
    try:
        with subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,
        ) as process:
            timer = threading.Timer(BUILD_LIMIT, os.killpg, (process.pid, signal.SIGTERM))
            timer.start()
            try:
                assert process.stdout is not None
                for line in process.stdout:
                    lines.append(line.rstrip())
                    if line.startswith("I: ") and line.endswith("...\n"):
                        progress(f"image {recipe.name}: {line[3:].strip()}")
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
            finally:
                timer.cancel()
        (directory / "mmdebstrap.log").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if process.returncode != 0:
            raise _explained(recipe, lines)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
