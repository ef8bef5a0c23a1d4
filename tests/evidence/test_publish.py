"""What makes a record fit for publication: its manifest, its signature, its schema, and what is removed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from conformance.errors import UsageError
from conformance.evidence.manifest import NAME, differences
from conformance.evidence.models import Call
from conformance.evidence.record import load_run
from conformance.evidence.redact import private_words, redacted, redacted_text
from conformance.gating.attestation import verify as check
from conformance.reports.publish_cli import SCHEMAS, attest, redact, schema_of, verify
from conformance.reports.write import write_reports
from tests.evidence import sample

SCHEMA_FILES = Path(__file__).parents[2] / "docs" / "schemas"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    run_dir = sample.write(tmp_path / "results", 30)
    write_reports(run_dir)
    return run_dir


def flip(run_dir: Path) -> None:
    """Change a failure to a pass by hand."""
    path = run_dir / "record.json"
    path.write_text(path.read_text().replace('"verdict":"fail"', '"verdict":"pass"', 1))


def test_the_manifest_is_one_that_sha256sum_accepts(run: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", NAME], cwd=run, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"record.json", "report.html", "rti.txt", "junit.xml"} <= {
        line.split("  ")[1] for line in (run / NAME).read_text().splitlines()
    }


def test_every_reader_reports_a_flipped_verdict(run: Path) -> None:
    flip(run)
    with pytest.raises(UsageError, match="is not what the run wrote"):
        load_run(run)


def test_reports_made_again_do_not_bless_a_changed_file(run: Path) -> None:
    log = run / "summary.json"
    log.write_text(log.read_text().replace("pass", "fail"))
    write_reports(run)
    assert differences(run) == ["summary.json was changed"]
    (run / "new.txt").write_text("x")
    log.unlink()
    assert sorted(differences(run)) == ["new.txt is not listed", "summary.json is missing"]


def test_a_run_that_was_killed_is_read_without_a_manifest(run: Path) -> None:
    (run / NAME).unlink()
    assert load_run(run).results
    with pytest.raises(UsageError, match="did not finish"):
        differences(run)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    if shutil.which("ssh-keygen") is None:
        pytest.skip("no ssh-keygen here")
    file = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(file)], check=True)
    return file


def signers(key: Path, name: str = "ci@example.org") -> Path:
    file = key.with_name("signers")
    file.write_text(f"{name} {key.with_suffix('.pub').read_text()}")
    return file


def test_a_signed_run_is_verified_by_ssh_keygen(run: Path, key: Path) -> None:
    assert CliRunner().invoke(attest, [str(run), "--key", str(key)]).exit_code == 0
    said = json.loads((run / "attestation.json").read_bytes())
    assert said["_type"] == "https://in-toto.io/Statement/v1"
    assert said["predicate"]["result"] == "FAILED" and said["predicate"]["failedTests"]
    whose = CliRunner().invoke(verify, [str(run), "--signers", str(signers(key))])
    assert whose.exit_code == 0 and "ci@example.org" in whose.output
    assert "--signers FILE checks" in CliRunner().invoke(verify, [str(run)]).output
    arguments = ["-I", "ci@example.org", "-n", "assay9", "-s", str(run / "attestation.json.sig")]
    by_hand = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", str(signers(key)), *arguments],
        input=(run / "attestation.json").read_bytes(),
        capture_output=True,
        check=False,
    )
    assert by_hand.returncode == 0


@pytest.mark.parametrize("change", ["record", "report", "statement", "signature", "other key", "expired"])
def test_any_change_after_the_signature_is_reported(run: Path, key: Path, change: str) -> None:
    CliRunner().invoke(attest, [str(run), "--key", str(key)])
    record, allowed = load_run(run), signers(key)
    statement, signature = run / "attestation.json", run / "attestation.json.sig"
    if change == "record":
        flip(run)
    elif change == "report":
        (run / "rti.txt").write_text("VERDICT: all is well\n")
    elif change == "statement":
        statement.write_text(statement.read_text().replace("FAILED", "PASSED"))
    elif change == "signature":
        signature.write_text("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n")
    elif change == "expired":
        signers(key, 'ci@example.org valid-before="20200101"')
    else:
        other = key.with_name("other")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
        allowed = signers(other)
    with pytest.raises(UsageError) as refused:
        check(record, run, allowed)
    assert "\n" not in str(refused.value)
    if change in ("other key", "expired"):
        assert f"no line of {allowed} is valid for the key that signed" in str(refused.value)


def test_what_cannot_be_signed_is_refused_with_a_remedy(run: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(attest, [str(run), "--key", str(tmp_path / "none")])
    assert isinstance(done.exception, UsageError) and "ssh-keygen -t ed25519" in str(done.exception)
    done = CliRunner().invoke(verify, [str(run)])
    assert isinstance(done.exception, UsageError) and "assay9 attest" in str(done.exception)


HEAP = "b'" + "\\x00\\x7f\\x90\\x41" * 20 + "'"


def test_nothing_private_is_left_in_what_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home" / "jane-doe"
    home.mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "jane-doe")
    monkeypatch.setenv("LOGNAME", "jane-doe")
    monkeypatch.setattr("socket.gethostname", lambda: "build-host-7")
    monkeypatch.setattr("socket.getfqdn", lambda: "build-host-7.corp.example.org")
    run_dir = sample.write(home / "results", 20)
    record = load_run(run_dir)
    call = Call(1, "outside", "main", "slurp", ["/proc/self/mountinfo"], f"/dev/sda1 on {home}")
    leaked = Call(1, "inside", "main", "read", ["3", f"{HEAP[:70]}... (39070 characters)"], HEAP)
    first, second = record.results[:2]
    secret = f"{home}/src jane-doe@build-host-7.corp.example.org {run_dir} {HEAP}"
    results = [
        first.model_copy(update={"details": secret, "reason": secret, "calls": [leaked]}),
        second.model_copy(update={"calls": [call]}),
        *record.results[2:],
    ]
    made = redacted(record.model_copy(update={"results": results}), private_words(run_dir, record))
    text = made.model_dump_json()
    for private in (str(home), "jane-doe", "build-host-7", str(run_dir), "mountinfo", "/dev/sda1", "\\\\x90"):
        assert private not in text, private
    assert "<host>" in text and "characters of bytes>" in text
    assert [r.verdict for r in made.results] == [r.verdict for r in record.results]


def test_mount_tables_and_the_name_of_the_guest_are_not_published(tmp_path: Path) -> None:
    record = load_run(sample.write(tmp_path, 1))
    table = "[['/dev/mapper/secret', '/', 'ext4', 'rw'], ['nas7:/vol', '/mnt', 'nfs', 'rw']]"
    calls = [
        Call(1, "inside", "main", "mounts", [], table, control_result=table),
        Call(2, "inside", "main", "read_text", ["/etc/fstab"], "nas7:/vol /mnt nfs"),
        Call(3, "inside", "main", "write_text", ["/etc/fstab", "nas7:/vol /mnt nfs"], "None"),
        Call(4, "inside", "main", "uname", [], "['Linux', 'secret-guest', '6.1.0', '#1 SMP', 'x86_64']"),
        Call(5, "inside", "main", "run", ["['cp', '/root/a', '/mnt/share0/new/root/bin']"], "root.squashfs"),
    ]
    (first,) = record.results
    made = redacted(
        record.model_copy(update={"results": [first.model_copy(update={"calls": calls})]}), {"/root": "<home>"}
    )
    text = made.model_dump_json()
    for private in ("secret", "nas7"):
        assert private not in text, private
    assert [call.op for call in made.results[0].calls] == ["mounts", "read_text", "write_text", "uname", "run"]
    assert made.results[0].calls[3].result == "['Linux', '<host>', '6.1.0', '#1 SMP', 'x86_64']"
    assert made.results[0].calls[4].args == ["['cp', '<home>/a', '/mnt/share0/new/root/bin']"]


def test_nothing_private_of_the_machine_that_made_the_record_is_left(tmp_path: Path) -> None:
    """A record made on a CI machine is published from an engineer's, which has neither its directories nor its user."""
    record = load_run(sample.write(tmp_path, 5))
    at = 'File "/srv/ci/build7/src/conformance/run/verdict.py", line 3'
    export = "-fsdev local,path=/srv/ci/out/20261130T040833Z-qemu/server-x/export /srv/ci/out/more ci-bot:x"
    first, *rest = record.results
    made = record.model_copy(
        update={
            "results": [first.model_copy(update={"details": f"{at} {export} /home/jane/x /Users/jane/y"}), *rest],
            "environment": record.environment.model_copy(
                update={
                    "command": "assay9 run qemu --results /srv/ci/out",
                    "host_user": "ci-bot",
                    "access": "SSH to ci-bot@lab7.example.org:2222, no Python",
                }
            ),
        }
    )
    text = redacted(made, private_words(tmp_path, made)).model_dump_json()
    for private in ("/srv/ci", "ci-bot", "jane", "lab7"):
        assert private not in text, private
    for kept in ("<checkout>/conformance/run/verdict.py", "<results>/20261130T040833Z-qemu/server-x", "<home>/x"):
        assert kept in text, kept


@pytest.mark.parametrize(
    ("access", "published"),
    [
        ("SSH to root@127.0.0.1:40022", "SSH to root@127.0.0.1:40022"),
        ("SSH to root@192.0.2.7:22", "SSH to <user>@<host>:22"),
        ("SSH to vm", "SSH to <user>@<host>"),
        ("launcher over TCP", "launcher over TCP"),
    ],
)
def test_a_guest_of_this_host_is_named_and_no_other(access: str, published: str, tmp_path: Path) -> None:
    record = load_run(sample.write(tmp_path, 1))
    made = record.model_copy(update={"environment": record.environment.model_copy(update={"access": access})})
    assert redacted(made, {}).environment.access == published


def test_the_command_writes_record_and_reports_and_no_logs(run: Path, tmp_path: Path) -> None:
    (run / "machine-x").mkdir()
    (run / "machine-x" / "console.log").write_text("secret")
    out = tmp_path / "public"
    done = CliRunner().invoke(redact, [str(run), str(out)])
    assert done.exit_code == 0, done.output
    assert sorted(p.name for p in out.iterdir()) == [NAME, "junit.xml", "record.json", "report.html", "rti.txt"]
    assert len(load_run(out).results) == 30 and not differences(out)
    again = CliRunner().invoke(redact, [str(run), str(out)])
    assert isinstance(again.exception, UsageError)


def test_a_quotation_does_not_reach_from_one_text_into_the_next(tmp_path: Path) -> None:
    """Nothing of a whole run on QEMU could be published: after redaction its record was not JSON any more."""
    record = load_run(sample.write(tmp_path / "results", 3))
    first, second, third = record.results
    results = [
        first.model_copy(update={"details": "name b'" + r"\xff\xfe\xfd\xfc\xfb"}),
        second.model_copy(update={"details": r"\xff\xfe and it's over"}),
        third,
    ]
    made = redacted(record.model_copy(update={"results": results}), {})
    assert [r.details for r in made.results] == [r.details for r in results]


def test_words_inside_of_other_words_stay() -> None:
    assert redacted_text("bobby bob bob-x", {"bob": "<user>"}) == "bobby <user> <user>-x"
    assert redacted_text("b'a plain text of some length that was written'", {}).startswith("b'a plain")


@pytest.mark.parametrize("what", SCHEMAS)
def test_the_schema_that_is_shipped_is_the_one_that_is_generated(what: str) -> None:
    shipped = (SCHEMA_FILES / f"{what}.schema.json").read_text()
    assert shipped == schema_of(what), f"run: assay9 schema {what} > docs/schemas/{what}.schema.json"
