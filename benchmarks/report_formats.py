"""Time and memory of each report format on a large record.

    python -m benchmarks.report_formats [--cases 20000] [--calls 2]

One process for each format makes the record, then writes the format. The output is the processor time of writing in
seconds, the peak of memory above that of the record itself, and the size of the report.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conformance.reports.write import REPORTS, writer_of
from tests.evidence import sample


def one(kind: str, cases: int, calls: int) -> None:
    """Write one format and print what it cost."""
    record = sample.record(cases, calls)
    name, where = REPORTS[kind]
    write = writer_of(where)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / name
        begun = time.process_time()
        write(record, path)
        took = time.process_time() - begun
        files = [path] if path.is_file() else [*path.rglob("*")]
        size = sum(file.stat().st_size for file in files)
    above = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    cost = f"{took:5.1f} s  {above / 1024:5.0f} MB"
    print(f"{kind:<9} {cost}  {size / 1e6:6.1f} MB written in {len(files)} files", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=2)
    parser.add_argument("--kind", choices=list(REPORTS))
    given = parser.parse_args()
    if given.kind:
        one(given.kind, given.cases, given.calls)
    else:
        for kind in REPORTS:
            words = [sys.executable, "-m", "benchmarks.report_formats", "--kind", kind]
            subprocess.run([*words, "--cases", str(given.cases), "--calls", str(given.calls)], check=True)
