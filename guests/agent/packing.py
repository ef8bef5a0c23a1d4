"""The agent as one file of Python source, which is pushed into a guest or started on this host.

Its modules are joined, each after those that it imports, without imports of each other and of types, which only
annotations use. So it starts as fast as a program of one file, from a file or from a line with its source, and need not
be unpacked. (A zip needs a file, and a guest would compile each module at each start.)
"""

from __future__ import annotations

import ast
import functools
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from guests.host.paths import runtime_dir

PACKAGE = "guests.agent.payload"
PAYLOAD = Path(__file__).with_name("payload")
TYPES = "values"
"""The module that is not part of the file: annotations alone name what it holds, and nothing evaluates them."""


def agent_file() -> Path:
    """A file that holds the agent, written if it is missing. Raises InfrastructureError."""
    source = agent_source()
    path = runtime_dir() / f"agent-{hashlib.sha256(source).hexdigest()[:12]}.py"
    if not path.is_file() or path.read_bytes() != source:
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(source)
        fresh.replace(path)
    return path


@functools.cache
def agent_source() -> bytes:
    """The agent's source."""
    parts = [f'"""The agent of assay9, joined from the modules of {PACKAGE}."""', "from __future__ import annotations"]
    for name in ordered_modules():
        parts += ["", f"# ---------------------------------------------------------------- {name}", "", _body(name)]
    return ("\n".join(parts) + "\n").encode()


def ordered_modules() -> list[str]:
    """The names of the agent's modules, each after those that it imports; the program's start, `__main__`, last."""
    order: list[str] = []

    def add(name: str) -> None:
        if name not in order:
            for needed in _imported(name):
                add(needed)
            order.append(name)

    for path in sorted(PAYLOAD.glob("[!_]*.py")):
        if path.stem != TYPES:
            add(path.stem)
    return [*order, "__main__"]


def module_tree(name: str) -> ast.Module:
    """A module of the agent, parsed."""
    return ast.parse((PAYLOAD / f"{name}.py").read_text(encoding="utf-8"))


def _imported(name: str) -> Iterator[str]:
    """The modules of the agent that one imports."""
    for node in module_tree(name).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE + "."):
            name = str(node.module)[len(PACKAGE) + 1 :]
            yield from [name] if name != TYPES else []


def _body(name: str) -> str:
    """The text of a module without the parts that joining replaces. Raises ValueError if it cannot be joined."""
    lines = (PAYLOAD / f"{name}.py").read_text(encoding="utf-8").splitlines()
    for node in module_tree(name).body:
        if _superfluous(node):
            assert node.end_lineno is not None
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines).strip("\n")


def _superfluous(node: ast.stmt) -> bool:
    if isinstance(node, ast.ImportFrom):
        if (node.module or "").startswith(PACKAGE):
            if node.module == PACKAGE or any(alias.asname for alias in node.names):
                raise ValueError(f"{ast.unparse(node)}: the agent's modules import names only, under those names")
            return True
        return node.module in ("__future__", "typing")
    return False
