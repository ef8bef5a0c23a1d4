"""The kernel build on target `local`, with a tree of a few files that has a kernel's make targets."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from conformance.errors import UsageError
from soak import journal as journals
from soak.host import Host
from soak.inside.kernel_build import differing, files_below
from soak.journal import Iteration
from soak.workloads import WORKLOADS
from soak.workloads.kernel_build import KERNEL_BUILD, answer, unit_of
from soak.workloads.kernel_reference import damage, keep
from soak.workloads.kernel_source import archive_of, needed, pack, read_by_objects
from tests.soak.runs import soaked

MAKEFILE = """
PHONY := tinyconfig olddefconfig prepare init/ lib/
.PHONY: $(PHONY)
tinyconfig: ; @echo CONFIG_TINY=y > .config
olddefconfig: ; @grep -q CONFIG .config
prepare: ; @mkdir -p include/generated && echo '#define USER "$(KBUILD_BUILD_USER)"' > include/generated/user.h
init/: init/main.o
lib/: lib/one.o lib/two.o
vmlinux: init/ lib/ ; @cat init/main.o lib/one.o lib/two.o > $@
%.o: %.c
	@echo "  CC      $@"
	@gcc -I include -c -o $@ $<
	@echo 'deps := $< include/linux/all.h' > $(dir $@).$(notdir $@).cmd
	EXTRA
"""


def tree(directory: Path, extra: str = "") -> Path:
    made = directory / "mini"
    for name, text in {
        "Makefile": MAKEFILE.replace("EXTRA", extra),
        "Kconfig": "",
        "scripts/x.sh": "true\n",
        "drivers/Kconfig": "",
        "arch/arm/lib/memcpy.S": "",
        "drivers/unused.c": "int unused;\n",
        "arch/arm/Kconfig": "",
        "include/linux/all.h": "#define ALL 1\n",
        "init/main.c": "#include <generated/user.h>\nchar *user = USER;\n",
        "lib/one.c": "#include <linux/all.h>\nint one = ALL;\n",
        "lib/two.c": "int two = 2;\n",
    }.items():
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (made / "scripts/link").symlink_to("x.sh")
    return made


def iterations(directory: Path) -> list[Iteration]:
    with journals.open_existing(directory / "run", writable=False) as journal:
        return journal.iterations()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def build(directory: Path, count: int = 1, extra: str = "", **options: object) -> list[Iteration]:
    source = directory / "mini"
    options = {"source": str(source if source.exists() else tree(directory, extra)), **options}
    soaked(directory, options=options, workload="kernel-build", iterations=count)
    return iterations(directory)


def test_builds_that_are_right(tmp_path: Path) -> None:
    done = build(tmp_path, 4, unit="objects:2", unpack_every=3)
    assert [i.outcome for i in done] == ["pass"] * 4, done
    assert [i.data["unpacked"] for i in done] == [True, False, False, True]
    assert {i.data["objects"] for i in done} == {3}, "two objects and .config"


def test_a_unit_by_calibration(tmp_path: Path) -> None:
    """The tree is configured outside; the unit is kept for the run; sources are compared from both sides."""
    first, second = build(tmp_path, 2, unit="auto")
    assert [(i.outcome, i.data.get("objects")) for i in (first, second)] == [("pass", 4)] * 2, (first, second)
    with journals.open_existing(tmp_path / "run", writable=False) as journal:
        kept = {e.data["key"]: e.data["value"] for e in journal.events("kept")}
        notes = " ".join(e.data["text"] for e in journal.events("note"))
    assert kept["unit"] == ["init/main.o", "lib/one.o", "lib/two.o"]
    assert "the unit is 3 objects" in notes


@pytest.mark.parametrize(("unit", "objects"), [("vmlinux", 5), ("lib", 3)])
def test_other_units(tmp_path: Path, unit: str, objects: int) -> None:
    (done,) = build(tmp_path, unit=unit)
    assert (done.outcome, done.data.get("objects")) == ("pass", objects), done


def test_the_part_on_the_host_may_say_something_in_its_thread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This happens while it waits for another run's outside build; the journal belongs to the runner's thread."""

    def answering(host: Host, question: dict[str, Any]) -> Any:
        host.note("waiting for the build outside")
        return answer(host, question)

    monkeypatch.setitem(WORKLOADS, "kernel-build", dataclasses.replace(KERNEL_BUILD, answer=answering))
    (done,) = build(tmp_path, unit="lib")
    assert done.outcome == "pass", done.data
    with journals.open_existing(tmp_path / "run", writable=False) as journal:
        assert "waiting for the build outside" in [e.data["text"] for e in journal.events("note")]


def test_a_configuration_file(tmp_path: Path) -> None:
    config = tmp_path / "my.config"
    config.write_text("CONFIG_MINE=y\n")
    (done,) = build(tmp_path, unit="lib", config=str(config))
    assert done.outcome == "pass", done


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ("@pwd | grep -q assay9-soak-kernel && printf x >> $@ || true", "objects are not what a build outside makes"),
        ("@pwd | grep -q assay9-soak-kernel && echo 'clock skew detected' >&2 || true", "the build outside did not"),
        ("@pwd | grep -q assay9-soak-kernel && echo >> lib/two.c || true", "sources differ after the build"),
        ("@pwd | grep -q assay9-soak-kernel && exit 1 || true", "make failed with status 2"),
    ],
)
def test_builds_that_are_wrong_inside(tmp_path: Path, extra: str, found: str) -> None:
    (done,) = build(tmp_path, extra=extra, unit="objects:3")
    assert done.outcome == "fail"
    assert found in done.data["what"]
    if "objects" in found:
        names = {Path(p).name for p in done.data["artefacts"]}
        assert {"lib%2Fone.o", "reference-lib%2Fone.o"} <= names


def test_the_share_is_not_blamed_for_what_is_damaged_in_the_cache(tmp_path: Path) -> None:
    """Earlier, the cached outside build decided verdicts even when it was damaged."""
    build(tmp_path, unit="lib")
    (answer,) = (tmp_path / "cache").glob("assay9/soak/kernel/reference-*/reference-*.json")
    answer.write_text(answer.read_text().replace("one.o", "eno.o"))
    shutil.rmtree(tmp_path / "run")
    assert [i.outcome for i in build(tmp_path, unit="lib")] == ["pass"]
    said = f"the build outside in the cache is damaged ({answer.name} has changed): making it again"
    assert said in notes(tmp_path)

    answer.write_text(answer.read_text().replace("one.o", "eno.o"))  # the build there was wrong from the start
    keep(answer.parent, answer.name)
    shutil.rmtree(tmp_path / "run")
    assert [i.outcome for i in build(tmp_path, unit="lib")] == ["pass"]
    assert "the build outside in the cache was damaged: what it had made is made again now" in notes(tmp_path)


def test_what_is_kept_of_the_build_outside_is_checked(tmp_path: Path) -> None:
    assert damage(tmp_path / "absent") == ""
    assert damage(tmp_path) == "kept.json: No such file or directory"
    for name in ("sources.json", "whole.tar"):
        (tmp_path / name).write_text(f"content of {name}")
        keep(tmp_path, name)
    assert damage(tmp_path) == ""
    (tmp_path / "whole.tar").write_text("content of whole.taz")
    assert damage(tmp_path) == "whole.tar has changed"
    (tmp_path / "whole.tar").unlink()
    assert damage(tmp_path) == "whole.tar: No such file or directory"
    for text in ("", "[]", "5", "\x00"):
        (tmp_path / "kept.json").write_text(text)
        assert damage(tmp_path) == "kept.json is not a list of its files"


def notes(directory: Path) -> list[str]:
    with journals.open_existing(directory / "run", writable=False) as journal:
        return [event.data["text"] for event in journal.events("note")]


def test_units_by_name() -> None:
    assert unit_of("auto", "kvm") == (["vmlinux"], 0)
    assert unit_of("auto", "tcg") == (["init/", "lib/"], -1)
    assert unit_of("objects:7", "tcg") == (["init/", "lib/"], 7)
    assert unit_of("lib,kernel/", "tcg") == (["lib/", "kernel/"], 0)
    for wrong in ("objects:0", "/lib", "-j", "A=1", ""):
        with pytest.raises(UsageError, match="objects"):
            unit_of(wrong, "tcg")


def test_what_a_build_needs(tmp_path: Path) -> None:
    made = tree(tmp_path)
    every = [str(p.relative_to(made)) for p in sorted(made.rglob("*")) if p.is_file()]
    (made / "lib/.one.o.cmd").write_text("deps := lib/one.c include/linux/all.h \\\n")
    chosen = needed(made, every)
    assert {
        "lib/one.c",
        "include/linux/all.h",
        "drivers/Kconfig",
        "arch/arm/Kconfig",
        "scripts/x.sh",
        "scripts/link",
    } <= set(chosen)
    assert not {"drivers/unused.c", "lib/two.c", "arch/arm/lib/memcpy.S"} & set(chosen)
    assert "lib/one.c" not in needed(made, every, {"lib/one.o"})
    costs = read_by_objects(made, ["lib/one.o", "lib/two.o"])
    assert costs == {"lib/one.o": {"lib/one.c", "include/linux/all.h"}}
    said = pack(made, chosen, tmp_path / "needed.tar")
    assert said["scripts/link"] == "symlink x.sh"
    assert json.loads((tmp_path / "needed.json").read_text()) == said


def test_no_such_source(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no kernel source"):
        archive_of(str(tmp_path / "nothing"), tmp_path, print)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="has no Makefile"):
        archive_of(str(tmp_path / "empty"), tmp_path, print)


def test_differing_sources_are_distinguished(tmp_path: Path) -> None:
    made = tree(tmp_path)
    chosen = [str(p.relative_to(made)) for p in sorted(made.rglob("*")) if not p.is_dir()]
    said = pack(made, chosen, tmp_path / "all.tar")
    assert files_below(str(made)) == set(chosen)
    assert differing(str(made), said, lambda: None) == []
    (made / "lib/one.c").write_text("int one = 2;\n")
    (made / "init/main.c").unlink()
    (made / "scripts/link").unlink()
    (made / "scripts/link").symlink_to("y.sh")
    (made / "Kconfig").unlink()
    (made / "Kconfig").symlink_to("Makefile")
    assert {line.split(":")[0] for line in differing(str(made), said, lambda: None)} == {
        "Kconfig",
        "init/main.c",
        "lib/one.c",
        "scripts/link",
    }
