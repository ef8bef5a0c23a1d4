"""Counts the lines of code of a revision, and how many came with later parts of the product: `make lines`.

A line of code is a line of Python that is not blank, outside tests, cases and docs; comments and docstrings count, and
`ruff format` lays out every line. docs/decisions/0009-lines-of-code.md says what is compared with what.

The state before the rooms were made has less functionality than the state now. So `git blame` attributes each line to
the commit that wrote it, wherever it has moved since, and lines of the commits named here are counted separately. A
line that another commit has changed since counts as the same functionality. The exception is a file that has no line
from before and came mostly with one part: that file counts with that part.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEFORE = "42d1c8c"
"""The last state before the rooms were made, with today's layout of code."""
CAME_WITH = {
    "any hypervisor, over SSH": """
        3d57c7d 62693b3 801967a c6ac3d4 85f50fb 5089afe 7bbe0ec 60c032a 096de8d f9d74be e86561a e348ca4 b30374b
        5c92f6b fbb89c1 5438376 192e09a 9ca252c c066204 b6df5f1 313b86c 843c311 d2522c6 2f88cba
        50366ea 102251f 1a43a21 8da4614 4b517b6 877ef93 043a231 17fa598 a97f60e 069d441 ac6dadd c397394 aa776c5
        43c2948 99bb40d efe8822 3488282 33df2a6 c49a3d3 f8d1a57 ae83b63 1c75386 c8f38a7 152ce64
        4285196 b23051c b689a45 07d3bc8 80d984c 788c3ef 2eb12a9 797e0bb
    """,
    "evidence, gate and fleet": """
        fccddbe 38e5be2 57ecb52 4454a16 0b77715 a032934 b66abcd 5761afb ac996b2 a3eae9d 8645469 8ba20bf 6bbccc9
        499cc7e 3ff2217 8bcc377 d7552af bebd9a7 4312279 2027b54 bc73249
        dc4cf54 e5f8ddc c735ccb
        dfb8386 e6f14a3 c6e66e7 d88fa4f c52fa89 0cceaf6 f21fd9c 5da80dd 18c3126 d07dc91 5778f07 dad5207 efef3a8 c2a7cb7
        7e5ca75 6443602 9f1b6d9 c04fd39 5f069bd c4c3e41 8472c22 082c99f
    """,
    "detecting power": """
        e1d8f65 e20b78a 7387935 72c6bff 5aef08d f8e5efd 270de73 7e738fb fe9f5ea 079b601 ddfe394 4f63702 e296105
        5dbaf79 040d2bc 2310d16 258e409 2435c99 90ad185 97e712d 8b0a503 a71915c 4ec885b e3419c0 1e0cb84
        f855898 c021438 a8fc121 7161837 40ef12f 9efa385 30e42bd ed7ceaa f33e0a9 745f360 18c3c66 bf1511d 9490482
        67f81f4 909598b 08ec15c 25aea95 2766fa4 4c96f34 56adf25 d770aad 550fc4f 2292dfb
        067e8b4 99ef10a 9484dfc 58d9396 c483cb1 0b56b77 3688125 f58fb0c bb20988
    """,
    "a verdict that can be trusted": """
        8c194ad 83ac48e 7aeda19 db058e9 1d1b2a9 7a2b24e b70781b 112e41e d4b9217 ff737e0 c287991 fb645fd fce6721
        5076ece c61978e 960200e d03529a 7b825fd e7c7d12 a7988f5 614eb30 ed9cead 8b1b2cd a84e808 1eb5c9c 8f349d9 e9a8f5b
        af8bb5e d6e752a 4b431a9 6d7e1ac a95f1d2 449aa75
    """,
}
"""The commits of each part of the product that was built, or continued, after BEFORE."""
SAME = "what was there before"
REWORDED = ("--ignore-revs-file", ".git-blame-ignore-revs")
"""A line that was only reworded counts for the commit before."""


def git(*arguments: str) -> str:
    """What git prints. Raises CalledProcessError, for an unknown revision for example."""
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def counted(revision: str) -> Iterator[str]:
    """The files that hold code."""
    for name in git("ls-tree", "-r", "--name-only", revision).splitlines():
        if name.endswith(".py") and not name.startswith(("tests/", "docs/")) and "/cases/" not in name:
            yield name


def lines_by_part(revision: str, name: str, older: frozenset[str]) -> Counter[str]:
    """How many lines of a file came with which part; `older` are the commits before the rooms were made."""
    parts = {commit: part for part, commits in CAME_WITH.items() for commit in commits.split()}
    commits: Counter[str] = Counter()
    for line in git("blame", "-s", "-w", "-M", "-C", "--abbrev=6", *REWORDED, revision, "--", name).splitlines():
        head, _, text = line.partition(")")
        commits[head.lstrip("^")[:7]] += bool(text.strip())
    found: Counter[str] = Counter()
    for commit, lines in commits.items():
        found[parts.get(commit, SAME)] += lines
    most = max(found, key=found.__getitem__, default=SAME)
    return found if older & commits.keys() else Counter({most: found.total()})


def size(revision: str) -> int:
    """The lines of code of a revision."""
    return sum(
        sum(1 for line in git("show", f"{revision}:{n}").splitlines() if line.strip()) for n in counted(revision)
    )


def main() -> None:
    """Print the table of a revision by package: HEAD, or the revision that is named."""
    revision = sys.argv[1] if len(sys.argv) > 1 else "HEAD"
    older = frozenset(commit[:7] for commit in git("rev-list", BEFORE).split())
    packages: dict[str, Counter[str]] = {}
    for name in counted(revision):
        package = "/".join(name.split("/")[:-1][:2]) or "."
        packages[package] = packages.get(package, Counter()) + lines_by_part(revision, name, older)
    parts = [SAME, *CAME_WITH]
    print("  ".join([f"{'package':28}", "   all", *parts]))
    for package, found in [*sorted(packages.items()), ("in all", sum(packages.values(), Counter()))]:
        print("  ".join([f"{package:28}", f"{found.total():6}", *(f"{found[part]:{len(part)}}" for part in parts)]))
    print(f"before: {size(BEFORE)} lines ({BEFORE})")


if __name__ == "__main__":
    main()
