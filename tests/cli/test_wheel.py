"""The wheel is installed in an empty environment: every command finds the files that it reads there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ("assay9", "conformance", "guests", "protocol", "reference_server", "soak")
NOT_SHIPPED = {"__pycache__"}


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment in which only the wheel is installed."""

    wheel: Path
    environment: Path
    elsewhere: Path
    """A directory outside the checkout."""

    def run(self, *arguments: str, program: str = "assay9") -> subprocess.CompletedProcess[str]:
        """Run a program of the environment outside the checkout."""
        argv = [str(self.environment / "bin" / program), *arguments]
        environment = os.environ | {"XDG_CACHE_HOME": str(self.elsewhere / "cache")}
        return subprocess.run(
            argv, cwd=self.elsewhere, env=environment, capture_output=True, text=True, timeout=600, check=False
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Build the wheel as pip does and install it; its dependencies are those of this environment."""
    base = tmp_path_factory.mktemp("wheel")
    sources = base / "sources"
    for name in PACKAGES:
        shutil.copytree(CHECKOUT / name, sources / name, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, sources)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-index", "--no-deps"]
    _checked([*pip, "wheel", *offline, "--no-build-isolation", "--wheel-dir", str(base), str(sources)])
    (wheel,) = base.glob("*.whl")
    environment = base / "environment"
    venv.create(environment, symlinks=True)
    python = environment / "bin" / "python"
    _checked([*pip, "--python", str(python), "install", *offline, str(wheel)])
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(_checked([str(python), "-c", where]).strip())
    # Only this directory: its own .pth files, and with them the checkout, are not followed from here.
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    elsewhere = base / "elsewhere"
    elsewhere.mkdir()
    return Installed(wheel, environment, elsewhere)


def _checked(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_file_of_the_packages_is_in_the_wheel(installed: Installed) -> None:
    """The sources and the files that they read: targets, profiles, templates, files of guests."""
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = {name for name in wheel.namelist() if not name.startswith("assay9-")}
    tracked = {
        str(path.relative_to(CHECKOUT))
        for name in PACKAGES
        for path in (CHECKOUT / name).rglob("*")
        if path.is_file() and not NOT_SHIPPED & set(path.parts)
    }
    assert sorted(tracked - held) == [], "add them to [tool.setuptools.package-data] in pyproject.toml"
    assert sorted(held - tracked) == []


def test_the_installed_packages_are_the_ones_that_run(installed: Installed) -> None:
    seen = installed.run("-c", "import conformance; print(conformance.__file__)", program="python")
    assert Path(seen.stdout.strip()).is_relative_to(installed.environment), seen


def test_the_installed_command_knows_the_targets(installed: Installed) -> None:
    seen = installed.run("targets")
    assert seen.returncode == 0, seen
    names = {path.stem for path in (CHECKOUT / "conformance" / "targets").glob("*.toml")}
    assert names and not [name for name in names if name not in seen.stdout]


def test_the_installed_command_runs_cases_and_writes_every_report(installed: Installed) -> None:
    seen = installed.run("run", "local", "-k", "TRUNC-001")
    assert seen.returncode == 0, seen
    assert "TRUNC-001" in (installed.elsewhere / "results" / "latest" / "report.html").read_text()


def test_the_installed_command_looks_at_this_machine(installed: Installed) -> None:
    """Exit status 3 says that something is missing on this machine, which is not a fault of the wheel."""
    seen = installed.run("doctor", "--quick")
    assert seen.returncode in (0, 3) and seen.stderr == "", seen
    if shutil.which("dpkg-query") is not None:
        assert "package qemu-system-x86" in seen.stdout


def test_the_installed_command_has_the_files_of_guests(installed: Installed) -> None:
    seen = installed.run("guest", "list")
    assert seen.returncode == 0 and "debian12" in seen.stdout, seen
