"""An in-toto test-result statement over a run's manifest, signed and verified by ssh-keygen with an SSH key.

https://github.com/in-toto/attestation/blob/main/spec/predicates/test-result.md; ssh-keygen(1), -Y sign and -Y verify.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from conformance.errors import InfrastructureError, UsageError
from conformance.evidence.manifest import differences, listed
from conformance.evidence.models import Record
from conformance.evidence.overview import JUDGED, overview, standing
from conformance.gating.baseline import name_of

FILE: Final = "attestation.json"
NAMESPACE: Final = "assay9"
"""Of the signature: what it was made for."""
_RESULTS: Final = {0: "PASSED", 1: "FAILED"}


def statement(record: Record, run_dir: Path) -> dict[str, Any]:
    """The statement: every file of the run by its hash, and the run's result."""
    seen, e = overview(record), record.environment
    passed: list[str] = []
    warned: list[str] = []
    failed: list[str] = []
    for result in record.results:
        stands = standing(result)
        into = passed if stands in ("pass", "guest") else failed if stands in ("fail", "fixed", "unstable") else warned
        if stands in JUDGED or stands in ("guest", "error"):
            into.append(name_of(result.key))
    program = e.programs.get("device")
    configuration = [{"name": path, "digest": {"sha256": digest}} for path, digest in e.profiles.items()]
    if program is not None and program.sha256:
        configuration.append({"name": program.path, "digest": {"sha256": program.sha256}})
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(listed(run_dir).items())],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": _RESULTS.get(seen.status, "WARNED"),
            "configuration": configuration,
            "url": e.job_url,
            "passedTests": passed,
            "warnedTests": warned,
            "failedTests": failed,
        },
    }


def attest(record: Record, run_dir: Path, key: Path) -> Path:
    """Write the statement and its signature by `key`; returns the path. Raises UsageError if the run was changed."""
    if wrong := differences(run_dir):
        raise UsageError(f"{run_dir} is not what the run wrote: {'; '.join(wrong[:3])}: nothing is signed")
    if not key.is_file():
        raise UsageError(f"no key {key}: name an SSH key with --key, or make one: ssh-keygen -t ed25519 -f {key}")
    file = run_dir / FILE
    file.write_text(json.dumps(statement(record, run_dir), indent=1) + "\n", encoding="utf-8")
    Path(f"{file}.sig").unlink(missing_ok=True)
    _ssh_keygen("sign", "-f", str(key), "-n", NAMESPACE, str(file))
    return file


def verify(record: Record, run_dir: Path, signers: Path | None) -> str:
    """Who signed the run, in one line.

    Raises UsageError if a file, the statement or the signature was changed, or if no one in `signers` (a file as
    ssh-keygen(1) describes under ALLOWED SIGNERS) made the signature.
    """
    if wrong := differences(run_dir):
        raise UsageError(f"{run_dir} is not what the run wrote: {'; '.join(wrong[:3])}")
    file, signature = run_dir / FILE, run_dir / f"{FILE}.sig"
    if not file.is_file() or not signature.is_file():
        raise UsageError(f"{run_dir} is not signed: `assay9 attest {run_dir} --key KEY` signs it")
    try:
        stated = json.loads(file.read_bytes())
    except ValueError:
        raise UsageError(f"{file} is damaged") from None
    data = file.read_bytes()
    if signers is None:
        signed_by = _ssh_keygen("check-novalidate", "-n", NAMESPACE, "-s", str(signature), data=data)
        whose = f"{signed_by.strip()}; --signers FILE checks whose key it is"
    else:
        if not signers.is_file():
            raise UsageError(f"no file {signers}: lines of `NAME KEY`, see ssh-keygen(1), ALLOWED SIGNERS")
        try:
            names = _ssh_keygen("find-principals", "-s", str(signature), "-f", str(signers)).split()
        except UsageError as e:
            raise UsageError(f"{signature}: no line of {signers} is valid for the key that signed ({e})") from None
        arguments = ("-n", NAMESPACE, "-s", str(signature), "-f", str(signers), "-I", names[0])
        whose = _ssh_keygen("verify", *arguments, data=data).strip()
    if stated != statement(record, run_dir):
        raise UsageError(f"{file} is not about this run: its files or results differ")
    return whose


def _ssh_keygen(what: str, *arguments: str, data: bytes | None = None) -> str:
    program = shutil.which("ssh-keygen")
    if program is None:
        raise InfrastructureError("ssh-keygen is not installed", "install openssh-client 8.2 or newer")
    done = subprocess.run([program, "-Y", what, *arguments], input=data or b"", capture_output=True, check=False)
    if done.returncode != 0:
        text = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
        raise UsageError(f"ssh-keygen -Y {what}: {text or 'it failed'}")
    return done.stdout.decode(errors="replace")
