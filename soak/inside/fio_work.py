"""Workload `fio`: random and sequential writes with a checksum in every block, read back and verified by fio itself."""

from __future__ import annotations

import json
import os
import random
from typing import Any

from soak.inside.common import Context, Finding, main
from soak.inside.programs import run


def iterate(context: Context, rng: random.Random) -> dict[str, Any]:
    """One job of fio: the seed decides how it writes."""
    size = context.config.get("mb", 32)
    how = rng.choice(["randwrite", "write", "randrw"])
    block = rng.choice(["4k", "512-64k", "128k", "1m"])
    direct = rng.choice([0, 0, 1]) if block not in ("512-64k",) else 0
    report = os.path.join(context.keep, "fio.json")
    argv = [
        "fio",
        "--name=soak",
        f"--directory={context.root}",
        f"--rw={how}",
        f"--size={size}m",
        "--numjobs=2",
        f"--{'bsrange' if '-' in block else 'bs'}={block}",
        "--ioengine=psync",
        f"--direct={direct}",
        "--verify=crc32c",
        "--do_verify=1",
        "--verify_fatal=1",
        "--verify_dump=0",
        "--fsync=64",
        "--end_fsync=1",
        f"--randseed={rng.getrandbits(31)}",
        "--allrandrepeat=0",
        "--output-format=json",
        f"--output={report}",
        "--thread=0",
        "--group_reporting=1",
    ]
    run(context, argv, context.keep, limit=1800)
    with open(report) as f:
        text = f.read()
    jobs = json.loads(text[text.index("{") :])["jobs"]
    if errors := [job["error"] for job in jobs if job["error"]]:
        raise Finding(f"fio reports errors {errors}", text[-20000:], (report,))
    verified = sum(job["read"]["io_bytes"] for job in jobs)
    if not verified:
        raise Finding("fio verified nothing", text[-20000:], (report,))
    return {
        "ops": round(sum(j["read"]["io_bytes"] + j["write"]["io_bytes"] for j in jobs) / 2**20),
        "how": f"{how} {block} direct={direct}",
    }


if __name__ == "__main__":
    main(iterate)
