"""Formats read by other projects' programs, too large to ship: the kernel's KTAP parser, Allure's generator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conformance.evidence.models import Record
from conformance.evidence.overview import overview, standing
from conformance.reports.formats.allure import STATUSES, write_allure
from conformance.reports.formats.ktap import write_ktap
from guests.host.paths import cache_dir
from soak.workloads.kernel_source import archive_of
from tests.evidence import sample

pytestmark = pytest.mark.long
ALLURE = "allure@3.18.0"
KUNIT = "tools/testing/kunit"
COUNTED = """
import json, sys
sys.path.insert(0, sys.argv[1])
import kunit_parser
found = kunit_parser.parse_run_tests(open(sys.argv[2]).read().splitlines())
counts = {**vars(found.counts), "subtests": len(found.subtests)}
print(json.dumps(counts), file=sys.stderr)
"""


@pytest.fixture(scope="module")
def record() -> Record:
    return sample.record(300)


def test_the_kernels_own_parser_counts_ktap_as_the_record_does(record: Record, tmp_path: Path) -> None:
    """`kunit.py parse` is under GPL 2: the test takes it from Debian's kernel source, cached for soaks too."""
    archive = archive_of("6.12", cache_dir() / "soak/kernel/sources", print)
    subprocess.run(["tar", "-xf", archive, "-C", tmp_path, "--wildcards", f"*/{KUNIT}/*.py"], check=True)
    (parser,) = tmp_path.glob(f"*/{KUNIT}")
    write_ktap(record, tmp_path / "x.ktap")
    words = [sys.executable, "-I", "-c", COUNTED, str(parser), str(tmp_path / "x.ktap")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    counts = overview(record).counts
    assert json.loads(done.stderr) == {
        "passed": counts["pass"] + counts["guest"] + counts["known"] + counts["varies"],
        "failed": counts["fail"] + counts["fixed"] + counts["unstable"] + counts["error"],
        "skipped": counts["unsupported"] + counts["undrivable"],
        "crashed": 0,
        "errors": 0,
        "subtests": len({(r.layer, r.family) for r in record.results}),
    }


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed: apt-get install npm")
def test_allure_makes_its_own_page_with_every_case(record: Record, tmp_path: Path) -> None:
    alone = {**os.environ, "ALLURE_NO_ANALYTICS": "1", "npm_config_cache": str(tmp_path / "npm")}
    subprocess.run(["npm", "install", "--no-fund", "--no-audit", ALLURE], cwd=tmp_path, env=alone, check=True)
    write_allure(record, tmp_path / "allure-results")
    words = ["node_modules/.bin/allure", "awesome", "--single-file", "allure-results", "-o", "out"]
    done = subprocess.run(words, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stats = json.loads((tmp_path / "out" / "summary.json").read_text())["stats"]
    of_run = bool(overview(record).doubts_of_run)
    counts = Counter(STATUSES[standing(r)] for r in record.results) + Counter({"broken": of_run})
    assert {name: stats[name] for name in counts} == dict(counts) and stats["total"] == len(record.results) + of_run
