"""The agent's modules are joined to one file that Python 3.8 and later run."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from conformance.virtio import guest_pci_payload
from guests.agent.link import AgentLink, Refused
from guests.agent.local_channel import LocalChannel
from guests.agent.packing import PACKAGE, PAYLOAD, TYPES, agent_file, agent_source, module_tree, ordered_modules
from guests.agent.payload.machine import CALLS, NUMBERS, architecture

MODULES = ordered_modules()
OLDEST = (3, 8)
PYTHONS = [f"python{OLDEST[0]}.{minor}" for minor in range(OLDEST[1], 15)]


RUN_AS_MODULE = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='driver')"


def defined(name: str) -> Iterator[str]:
    """The names that a module defines at its top level, without its imports."""
    for node in module_tree(name).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))


def test_every_module_is_joined_after_those_that_it_imports() -> None:
    assert {f"{name}.py" for name in MODULES} == {p.name for p in PAYLOAD.glob("*.py")} - {"__init__.py", f"{TYPES}.py"}
    text = agent_source().decode()
    assert "guests.agent.payload." not in text.split("\n", 1)[1]
    assert MODULES.index("declare") < MODULES.index("looking") < MODULES.index("loop") < MODULES.index("__main__")


def test_a_name_stands_for_one_thing_in_the_joined_file() -> None:
    """Two modules that define the same name would change each other's meaning; so would a library's name."""
    counted = Counter(n for name in MODULES for n in set(defined(name)))
    libraries = {
        a.name for name in MODULES for n in module_tree(name).body if isinstance(n, ast.Import) for a in n.names
    }
    assert [name for name, times in counted.items() if times > 1 or name in libraries] == []


def test_the_agent_imports_the_standard_library_alone() -> None:
    for node in ast.walk(ast.parse(agent_source())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("name", MODULES)
def test_what_is_for_the_type_checker_stands_in_annotations_alone(name: str) -> None:
    tree = module_tree(name)
    of_types = ("typing", f"{PACKAGE}.{TYPES}")
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module in of_types]
    typed = {alias.name for node in imports for alias in node.names}
    notes: set[int] = set()
    for node in ast.walk(tree):
        for part in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            notes |= {id(n) for n in ast.walk(part)} if part is not None else set()
    assert [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id in typed and id(n) not in notes] == []


@pytest.mark.parametrize("source", [agent_source(), Path(guest_pci_payload.__file__).read_bytes()])
def test_the_syntax_is_that_of_the_oldest_python(source: bytes) -> None:
    ast.parse(source, feature_version=OLDEST)


def interpreter(name: str) -> str | None:
    """A Python of that name that starts, on the path or among pyenv's: a shim of pyenv starts only if it is chosen."""
    kept = sorted(Path.home().glob(f".pyenv/versions/{name.removeprefix('python')}.*/bin/{name}"))
    for program in (shutil.which(name), *kept):
        if program and not subprocess.run([program, "-c", ""], capture_output=True, check=False).returncode:
            return str(program)
    return None


@pytest.mark.parametrize("python", PYTHONS)
def test_the_agent_answers_under_every_python_that_is_here(python: str, tmp_path: Path) -> None:
    program = interpreter(python)
    if program is None:
        pytest.skip(f"no {python} here")
    calls = [
        ("setroot", [str(tmp_path)]),
        ("create", ["fred", {"b64": "YQ=="}]),
        ("listdir", ["."]),
        ("lstat", ["none"]),
    ]
    asked = [{"id": i, "op": op, "args": args, "kw": {}} for i, (op, args) in enumerate(calls)]
    text = "".join(json.dumps(request) + "\n" for request in asked)
    subprocess.run([program, "-I", "-c", RUN_AS_MODULE, guest_pci_payload.__file__], check=True)
    argv = [program, "-I", str(agent_file())]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
    replies = [json.loads(line) for line in done.stdout.splitlines()]
    assert replies[2]["v"] == ["fred"]
    assert replies[3]["errno"] == "ENOENT"


def test_a_process_of_32_bits_has_its_own_numbers_under_a_kernel_of_64() -> None:
    assert architecture("x86_64", narrow=True) == architecture("i686", narrow=True) == "i386"
    assert {architecture(machine, narrow=False) for machine in ("x86_64", "amd64")} == {"x86_64"}
    assert {architecture(machine, narrow=False) for machine in ("aarch64", "arm64")} == {"aarch64"}
    assert architecture("riscv64", narrow=False) == "riscv64"
    assert all(len(numbers) == len(CALLS) for numbers in NUMBERS.values())


@pytest.mark.parametrize(
    ("machine", "narrow"), [("s390x", False), ("armv7l", True), ("aarch64", True), ("ppc64le", False)]
)
def test_another_architecture_is_refused_in_one_line(machine: str, narrow: bool) -> None:
    with pytest.raises(ValueError, match=rf"^the agent has no system call numbers for {machine} .* x86_64, i386"):
        architecture(machine, narrow)


def test_its_caller_raises_the_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = tmp_path / "agent.py"
    elsewhere.write_bytes(agent_source().replace(b"os.uname().machine", b"'s390x'"))
    monkeypatch.setattr("guests.agent.local_channel.agent_file", lambda: elsewhere)
    link = AgentLink(LocalChannel())
    with pytest.raises(Refused) as refused:
        link.calls.getpid()
    link.close()
    assert "s390x" in str(refused.value) and "\n" not in str(refused.value)
