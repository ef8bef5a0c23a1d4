"""An unknown name is refused before anything starts: one line with the nearest known name, exit status 2."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import STARTED, Command

ROOT = os.geteuid() == 0

COMMAND_LINES: list[tuple[str, str]] = [
    # targets and layers
    ("run", "give a TARGET"),
    ("run qmeu", "unknown target 'qmeu': did you mean 'qemu'?"),
    ("run ./none.toml", "no file none.toml: a target is a TOML file"),
    ("run .", "unknown target '.'"),
    ("run /", "/ cannot be read as a TOML file: Is a directory"),
    ("run --nope", "give a TARGET before options of pytest"),
    ("run local --layer vsf", "unknown layer 'vsf': did you mean 'vfs'?"),
    ("run reference --layer vfs", "target reference: no layer vfs: nothing mounts it (it has wire, ring)"),
    (
        "run local --layer wire",
        "target local: no layer wire: raw frames do not reach it (it has vfs, property, sequence, application)",
    ),
    ("run diod --layer property", "target diod: no layer property: nothing mounts it (it has wire)"),
    ("run diod --layer ring", "target diod: no layer ring: it is reached by socket, without virtqueues"),
    ("run local --family opne", "unknown family 'opne': did you mean 'open'?"),
    ("run local --layer property --family open", "no family open in layer property: it belongs to vfs, wire"),
    # cases
    ("run local -k OPEN-9999", "matches -k 'OPEN-9999': did you mean 'OPEN-"),
    ("run local -k zzz", "no case of vfs, property, sequence matches -k 'zzz': `assay9 cases` lists ids and families"),
    ("run local -k WIRE-OPEN", "no case of vfs, property, sequence matches -k 'WIRE-OPEN': cases of wire/open do"),
    ("run local --family mode -k rename_over", "in family mode matches -k 'rename_over': cases of"),
    ("run local -k (", "-k '(' is not an expression"),
    ("run local -k open()", "is not an expression"),
    # mounts
    ("run local --mount cahce=none", "unknown mount option 'cahce': did you mean 'cache'?"),
    ("run local --mount cache=lose", "unknown cache mode 'lose': did you mean 'loose'?"),
    ("run local --mount msize=4k", "msize='4k': give a number of bytes, 4096 or more"),
    ("run local --mount version=9p2000", "unknown version '9p2000': did you mean '9p2000."),
    ("run local --mount access=1001", "use access=0"),
    ("run local --mount cache=none --mounts all", "--mount and --mounts all exclude each other"),
    ("run local --mounts al", "unknown value of --mounts 'al': did you mean 'all'?"),
    # options that mean nothing for the target
    ("run local --qemu /bin/true", "--qemu does not apply: target local runs no QEMU"),
    ("run diod --qemu-arg=-L", "--qemu-arg does not apply: target diod runs no QEMU"),
    ("run reference --image debian12", "--image does not apply: target reference has no guest to choose"),
    ("run local --security-model none", "--security-model does not apply"),
    ("run reference --mount cache=none", "--mount does not apply: the layers wire mount nothing"),
    ("run reference --mounts all", "--mounts does not apply"),
    ("run reference --control never", "--control does not apply"),
    ("run qemu --access console", "unknown access 'console'"),
    ("run reference-uml --access ssh", "--access does not apply: target reference-uml has one way into its guest"),
    ("run local --keep-guest", "--keep-guest does not apply: target local starts no guest that could stay"),
    ("run local --address 127.0.0.1:1", "--address does not apply: target local is not a server of yours"),
    ("run reference --export /", "--export does not apply: target reference is started by the suite itself"),
    ("run local --link qtest", "target local: unknown link 'qtest': none exists"),
    ("run diod --link qtest", "target diod: unknown link 'qtest': use one of socket"),
    ("run reference --layer ring --link socket", "layer ring needs virtqueues, and --link socket has none"),
    ("run qemu --layer vfs --link qtest", "--link does not apply: it is for the layers wire and ring"),
    ("run qemu --layer wire --image debian11", "--image does not apply: the layers wire boot no guest over qtest"),
    ("run qemu --layer wire --link qtst", "target qemu: unknown link 'qtst': did you mean 'qtest'?"),
    ("run vhost-user --jobs 2", "the device of target vhost-user has one front end at a time"),
    ("run qemu --keep-guest --jobs 2", "--keep-guest keeps one guest: leave --jobs out"),
    # what must exist
    ("run qemu --qemu /nonexistent/qemu", "/nonexistent/qemu is not an executable program"),
    ("run qemu --qemu /bin/true", "/bin/true is not a QEMU"),
    ("run qemu --qemu-arg=-nosuch", "does not start with -nosuch: qemu-system-x86_64: -nosuch: invalid option"),
    ("run qemu --image debain11", "unknown guest image 'debain11': did you mean 'debian11'?"),
    ("run qemu --security-model passthru", "unknown security model 'passthru': did you mean 'passthrough'?"),
    ("run socket", "say where the server listens: --address HOST:PORT"),
    ("run socket --address 127.0.0.1:1 --export /nonexistent", "--export /nonexistent is not a directory"),
    ("run socket --address 127.0.0.1:99999", "HOST:PORT has a port from 1 to 65535, '99999' is none"),
    ("run socket --address 127.0.0.1:http", "HOST:PORT has a port from 1 to 65535, 'http' is none"),
    ("run socket --address /nonexistent/s", "it does not exist; give HOST:PORT, or a unix socket's path"),
    ("run vhost-user --address 127.0.0.1:1", "it does not exist; give the path of a unix socket"),
    (f"run socket --address /{'x' * 110}", "the path of a unix socket has at most 107 bytes"),
    ("run local --results /proc/results", "--results '/proc/results': nothing can be written there"),
    ("run local --results /dev/null/results", "--results '/dev/null/results': nothing can be written there"),
    ("run local --jobs 0", "invalid value for '--jobs': 0 is not in the range"),
    ("run local --jobs many", "invalid value for '--jobs'"),
    # the other commands
    ("rnu local", "unknown command 'rnu': did you mean 'run'?"),
    ("--verzion", "unknown option '--verzion': did you mean '--version'?"),
    ("cases --layer vsf", "unknown layer 'vsf': did you mean 'vfs'?"),
    ("cases --family opne", "unknown family 'opne': did you mean 'open'?"),
    ("cases --layer ring --family open", "no family open in layer ring: it belongs to vfs, wire"),
    ("cases --proof results", "--proof says which run proves the matrix: add --matrix"),
    ("cases --matrix --proof nowhere", "nowhere does not exist"),
    ("report nowhere", "no run 'nowhere' here or in results"),
    ("report --kind jnuit", "unknown value of --kind 'jnuit': did you mean 'junit'?"),
    ("compare a b", "no run 'a' here or in results"),
    ("guest buidl", "unknown command 'buidl': did you mean 'build'?"),
    ("guest build debain12", "unknown guest image 'debain12': did you mean 'debian12'?"),
    ("guest boot debain12", "unknown guest image 'debain12': did you mean 'debian12'?"),
    ("guest boot --accelerator kvn", "unknown value of --accelerator 'kvn': did you mean 'kvm'?"),
    ("guest boot --acelerator kvm", "unknown option '--acelerator': did you mean '--accelerator'?"),
    ("guest boot --memory 1", "invalid value for '--memory'"),
    ("guest ssh -m m-1", "unknown machine 'm-1'"),
    ("soak locl", "unknown target 'locl': did you mean 'local'?"),
    ("soak reference", "has no share to mount"),
    ("soak local --workload tre", "unknown workload 'tre': did you mean 'tree'?"),
    ("soak local --image debian12", "--image does not apply: target local has no guest to choose"),
    ("soak local --mount cahce=none", "unknown mount option 'cahce'"),
    ("soak status nowhere", "no run 'nowhere' here or in results"),
    ("serve nowhere", "cannot export nowhere: No such file or directory"),
    ("serve", "missing argument 'DIRECTORY'"),
    ("frames nowhere", "nowhere: No such file or directory"),
    ("doctor now", "got unexpected extra argument (now)"),
]

TABLES: list[tuple[str, str]] = [
    ("this is not TOML", "not TOML"),
    ("kind = 'qmeu'", "kind: unknown word 'qmeu': did you mean 'qemu'?"),
    ("kidn = 'qemu'", "unknown key 'kidn': did you mean 'kind'?"),
    ("name = 'x'", "name: a target has the name of its file"),
    ("layers = ['vsf']", "layers entry 1: unknown layer 'vsf': did you mean 'vfs'?"),
    ("layers = ['wire']\nkind = 'local'", "target mine: no layer wire"),
    (
        "kind = 'local'\nlayers = ['vfs']\nleft_out = { ring = 'r' }",
        "left_out.ring: a run without --layer includes it, or it cannot be driven",
    ),
    ("left_out = { vsf = 'r' }", "unknown layer 'vsf': did you mean 'vfs'?"),
    ("components = ['qemu-devcie']", "unknown component 'qemu-devcie': did you mean 'qemu-device'?"),
    ("components = ['none.toml']", "none.toml: a component is a TOML file, or one of"),
    ("components = ['.toml']", "a component is a TOML file"),
    ("[machine]\nimage = 'debain12'", "unknown guest image 'debain12': did you mean 'debian12'?"),
    ("[machine]\nimge = 'debian12'", "unknown key 'machine.imge': did you mean 'image'?"),
    ("[machine]\nsecurity_model = 'mapped'", "machine.security_model: unknown word 'mapped': did you mean 'mapped-"),
    ("[machine]\nmultidevs = 'remp'", "machine.multidevs: unknown word 'remp': did you mean 'remap'?"),
    ("[machine]\nmemory_mb = 'much'", "machine.memory_mb: input should be a valid integer"),
    ("kind = 'uml'\n[machine]\nprogram = 'qemu'", "unknown key 'machine.program': use one of image, memory_mb"),
    ("kind = 'local'\n[machine]\nmemory_mb = 1", "machine does not apply to 'local', which has "),
    ("kind = 'local'\n[server]\nprogram = 'reference'", "server does not apply to 'local', which has "),
    ("kind = 'server'", "server is missing"),
    (
        "kind = 'server'\n[server]\nprogram = 'referense'",
        "server.program: unknown word 'referense': did you mean 'reference'?",
    ),
    ("kind = 'server'\n[server]\nprogramm = 'x'", "unknown key 'server.programm': did you mean 'program'?"),
    ("kind = 'server'\n[server]\nprogram = 'reference'\ntransport = 'tpc'", "unknown word 'tpc': did you mean 'tcp'?"),
    ("kind = 'server'\n[server]\nprogram = 'reference'\nmsize = 1", "server.msize: input should be greater than"),
    (
        "kind = 'server'\n[server]\nprogram = 'reference'\naname = '{exprot}'",
        "server.aname: unknown placeholder '{exprot}': did you mean '{export}'?",
    ),
    (
        "kind = 'server'\n[server]\nprogram = 'ganesha'\ntcp_mszie = 1",
        "unknown key 'server.tcp_mszie': did you mean 'tcp_msize'?",
    ),
    ("kind = 'server'\n[server]\nprogram = 'command'", "needs the command line, with {unix} or {port}, and {export}"),
    (
        "kind = 'server'\n[server]\nprogram = 'command'\narguments = ['true', '{unx}', '{export}']",
        "server.arguments: unknown placeholder '{unx}': did you mean '{unix}'?",
    ),
    (
        "kind = 'server'\n[server]\nprogram = 'command'\narguments = ['true', '{export}']",
        "transport unix needs {unix} in the command line",
    ),
    (
        "kind = 'server'\n[server]\nprogram = 'command'\narguments = ['/no/such', '{unix}']",
        "server.arguments: '/no/such' is not an executable program",
    ),
    (
        "kind = 'uml'\n[server]\ncommand = ['true', '{sokcet}']",
        "server.command entry 2: unknown placeholder '{sokcet}': did you mean '{socket}'?",
    ),
    ("kind = 'uml'\n[server]\ncommand = ['true', '{']", "server.command entry 2: '{': "),
    ("kind = 'uml'\n[server]\ncommand = ['/no/such']", "server.command: '/no/such' is not an executable program"),
    ("kind = 'uml'\n[server]\nprogram = 'other'", "[server] needs program = 'reference', or a command"),
    ("kind = 'tcp'\n[server]\nprogram = 'crosvm'", "server.program: unknown word 'crosvm': use one of diod"),
    ("[profile]\nfeatures = ['xatr']", "profile.features entry 1: unknown feature 'xatr': did you mean 'xattr'?"),
    (
        "[profile]\ndialects = ['9p2000.l']",
        "profile.dialects entry 1: unknown word '9p2000.l': did you mean '9p2000.L'?",
    ),
    (
        "[[profile.unsupported]]\nfeature = 'xatr'\nerrno = ['EIO']\nreason = 'r'",
        "profile.unsupported entry 1, feature: unknown feature 'xatr': did you mean 'xattr'?",
    ),
    (
        "[[profile.unsupported]]\nfeature = 'xattr'\nerrno = ['ENOPE']\nreason = 'r'",
        "profile.unsupported entry 1, errno entry 1: unknown errno 'ENOPE': did you mean ",
    ),
    (
        "[[profile.unsupported]]\nfeature = 'xattr'\nerrno = []\nreason = 'r'",
        "profile.unsupported entry 1, errno: list should have",
    ),
    (
        "[[profile.rules]]\nfield = 'sise'\nrule = 'informational'\nreason = 'r'",
        "profile.rules entry 1, field: unknown field 'sise': did you mean 'size'?",
    ),
    (
        "[[profile.rules]]\nfield = 'size'\nrule = 'informal'\nreason = 'r'",
        "unknown word 'informal': did you mean 'inform",
    ),
]

KNOWN: list[tuple[str, str]] = [
    ("case = 'NODE-9999'", "component mine: known failure of an unknown case 'NODE-9999': did you mean 'NODE-"),
    ("case = ['MODE-001', 'MODE-9x']", "known failure of an unknown case 'MODE-9x': did you mean 'MODE-"),
    ("case = 'ACCESS-001[ownr]'", "known failure of case ACCESS-001: unknown parameter 'ownr': did you mean 'owner'?"),
    ("case = 'ACCESS-001[owner'", "known failure of case 'ACCESS-001[owner': its bracket is not closed"),
    ("case = 'MODE-001[x]'", "known failure of case MODE-001: unknown parameter 'x'"),
    ("case = 'MODE-001'\nmount = 'cahce=*'", "no mount is called 'cahce=*': did you mean 'cache'?"),
    ("case = 'MODE-001'\nmount = 'cache=lose*'", "no mount is called 'cache=lose*': did you mean 'loose'?"),
    ("case = 'MODE-001'\nmodel = 'maped-*'", "unknown security model 'maped-*': did you mean 'mapped-"),
    ("case = 'MODE-001'\nguest = 'debian12'", "unknown key 'profile.known entry 1, guest'"),
    (
        "case = 'MODE-001'\nversions = '>>7'",
        "profile.known entry 1, versions: versions = '>>7': give comparisons such as",
    ),
    (
        "case = 'MODE-001'\nkernel = '6.12'",
        "profile.known entry 1, kernel: versions = '6.12': give comparisons",
    ),
    ("case = 'MODE-001'\nunless = 'v86-devise'", "unknown component 'v86-devise': did you mean 'v86-device'?"),
    ("case = 'MODE-001'\nfinding = ['errnoo']", "unknown finding code 'errnoo': did you mean 'errno'?"),
    ("case = 'MODE-001'\nfinding = []", "profile.known entry 1, finding: no finding code is named"),
    ("case = 'MODE-001'  # no finding", "profile.known entry 1, finding is missing"),
    ("case = 'MODE-001'\nsymptom = 'Errno 22'", "unknown key 'profile.known entry 1, symptom'"),
]


@pytest.mark.parametrize(("line", "said"), COMMAND_LINES)
def test_a_word_of_the_command_line(assay9: Command, tmp_path: Path, line: str, said: str) -> None:
    seen = assay9(*line.split(" "))
    assert seen.status == 2
    assert said in seen.one_line() and seen.err.startswith("assay9: ")
    assert not list(tmp_path.glob("results*")), "no run's directory is made"


@pytest.mark.parametrize(("text", "said"), TABLES)
def test_a_word_of_a_target(assay9: Command, tmp_path: Path, text: str, said: str) -> None:
    refused(assay9, tmp_path, text, said)


@pytest.mark.parametrize(("text", "said"), KNOWN)
def test_a_word_of_a_known_failure(assay9: Command, tmp_path: Path, text: str, said: str) -> None:
    more = "" if "finding" in text else "\nfinding = 'errno'"
    link = "https://example.org/issue"
    refused(assay9, tmp_path, f"[[profile.known]]\n{text}{more}\nreason = 'r'\nlink = '{link}'", said)


KIND = "kind = 'qemu'\n"


def refused(assay9: Command, tmp_path: Path, text: str, said: str) -> None:
    own = re.search("^ki", text, re.MULTILINE) is not None
    (tmp_path / "mine.toml").write_text(f"title = 'mine'\n{'' if own else KIND}{text}\n")
    for command in (["run", "./mine.toml"], ["run", str(tmp_path / "mine.toml"), "--mounts", "default"]):
        seen = assay9(*command)
        assert seen.status == 2, seen
        assert said in seen.one_line()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    "text",
    [
        *(
            f"{key} = {value}"
            for key in ("layers", "left_out", "components", "machine", "server", "profile", "kind")
            for value in ("5", "'x'", "[5]", "{ x = 5 }", "1979-05-27", "inf")
        ),
        *(
            f"[machine]\n{key} = {value}"
            for key in ("program", "image", "arguments", "memory_mb", "multidevs")
            for value in ("[[]]", "{ x = 5 }", "1979-05-27", "nan")
        ),
        *(
            f"[profile]\n{key} = {value}"
            for key in ("features", "dialects", "unsupported", "known", "rules")
            for value in ("5", "'x'", "[5]", "{ x = 5 }", "[[]]")
        ),
        *(
            f"[[profile.known]]\nreason = 'r'\nlink = 'https://example.org'\n{key} = {value}"
            for key in ("case", "finding", "values", "versions", "mount", "model", "sometimes", "owner", "unless")
            for value in ("5", "[[]]", "[5]", "{ x = [5] }")
        ),
        *(
            f"kind = 'server'\n[server]\nprogram = 'command'\n{key} = {value}"
            for key in ("arguments", "msize", "aname", "options", "transport")
            for value in ("-1", "[[]]", "{ x = [] }")
        ),
        *(
            f"kind = 'uml'\n[server]\n{key} = {value}"
            for key in ("command", "arguments", "program")
            for value in ("-1", "[[]]", "{ x = [] }", "'{x'")
        ),
    ],
)
def test_a_value_of_the_wrong_type(assay9: Command, tmp_path: Path, text: str) -> None:
    refused(assay9, tmp_path, text, "mine")


@pytest.mark.parametrize(("content", "said"), [(b"\xff\xfe", "not TOML"), (b"a = " + b"[" * 5000, "nested too deeply")])
def test_a_file_that_is_no_toml(assay9: Command, tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    seen = assay9("run", "./mine.toml")
    assert seen.status == 2 and said in seen.one_line()


@pytest.mark.parametrize(
    "line",
    [
        "run local",
        "run qemu",
        "run local -k not zzz",
        "run local -k loose",
        "run local --mount version=9p2000.u",
        "run qemu --layer wire --link guest-pci --image debian11",
        "run reference --layer ring",
        "run local --results new/dir",
        "run qemu --mounts all --keep-guest",
        "soak local --workload tree",
        "guest build",
        "guest boot",
    ],
)
def test_what_is_right_is_not_refused(assay9: Command, tmp_path: Path, line: str) -> None:
    command, expression, rest = line.partition(" -k ")
    seen = assay9(*command.split(" "), *(["-k", rest] if expression else []))
    assert seen.status == STARTED, seen
    assert not (tmp_path / "new").exists(), "the directory for results is made by the run, not by the check"


@pytest.mark.skipif(not ROOT, reason="root alone can be distinguished from an ordinary user")
def test_a_target_that_needs_root_says_so(assay9: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    seen = assay9("run", "reference-uml")
    assert seen.status == 2 and "needs root" in seen.one_line()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ASSAY9_SCRATCH", "/proc/nowhere", "ASSAY9_SCRATCH='/proc/nowhere': nothing can be written there"),
        ("ASSAY9_SCRATCH", "here", "ASSAY9_SCRATCH='here': give the absolute path of a directory"),
        ("ASSAY9_SCRATCH", "", "ASSAY9_SCRATCH='': give the absolute path of a directory"),
        ("ASSAY9_RING_SCALE", "ten", "ASSAY9_RING_SCALE='ten': give a whole number"),
    ],
)
def test_a_variable_of_the_environment(
    assay9: Command, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    seen = assay9("run", "local")
    assert seen.status == 2 and said in seen.one_line()


PROCESSES = [
    (["run", "qmeu"], "did you mean 'qemu'?"),
    (["run", "reference", "--layer", "vfs"], "no layer vfs"),
    (["run", "local", "-k", "NOSUCHCASE"], "matches -k 'NOSUCHCASE'"),
    (["run", "local", "--results", "/proc/x"], "nothing can be written there"),
    (["run", "./mine.toml"], "unknown case 'NODE-9999'"),
    (["run", "attach", "--gest", "root@vm", "--outside", "/x"], "unknown option '--gest': did you mean '--guest'?"),
    (["run", "bhyve-illumos", "--outsyde=h:/x"], "unknown option '--outsyde': did you mean '--outside'?"),
    (["run", "local", "--layr", "vfs"], "unknown option '--layr': did you mean '--layer'?"),
    (["run", "local", "--maxfail=x"], "argument --maxfail: invalid int value: 'x'"),
    (
        ["run", "local", "--junitxml", "/proc/x/junit.xml"],
        "/proc/x/junit.xml': nothing can be written",
    ),
    (["run", "local", "--junitxml", "mine.toml/junit.xml"], "--junitxml 'mine.toml/junit.xml': nothing can be written"),
    (["run", "local", "--log-file", "/proc/version"], "--log-file '/proc/version': it cannot be written"),
    (["run", "local", "-m", "slow"], "-m selects by marks, which cases do not have"),
    (["run", "local", "-W", "nonsense"], "nonsense"),
    (["run", "local", "test_open.py"], "no file test_open.py: only options follow the target"),
    (["soak", "local", "--unit", "nope"], "nope"),
    (["guest", "buidl"], "did you mean 'build'?"),
]


YARDSTICK = [sys.executable, "-c", "import click, pydantic, pytest"]
"""A command that takes 0.2 s of processor time where a refusal takes 0.6 s: each machine is its own measure."""
COMPILED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of a user: the first process compiles the modules, and later ones do not."""


def spent(argv: list[str], cwd: Path) -> tuple[float, subprocess.CompletedProcess[str]]:
    """Processor seconds of a process and of the children that it waited for, independent of the machine's load."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False, env=COMPILED)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done


@pytest.mark.parametrize(("arguments", "said"), PROCESSES)
def test_a_process_of_its_own_ends_at_once(arguments: list[str], said: str, tmp_path: Path) -> None:
    """It takes less processor time than five yardsticks, about a second; a guest or pytest's workers take far more."""
    (tmp_path / "mine.toml").write_text(
        "title = 'm'\nkind = 'local'\n[[profile.known]]\ncase = 'NODE-9999'\n"
        "finding = 'errno'\nreason = 'r'\nlink = 'https://example.org'\n"
    )
    ratios = []
    for _ in range(5):  # another process on the same core sometimes slows one of the two more than the other
        seconds, done = spent([sys.executable, "-m", "assay9", *arguments], tmp_path)
        assert done.returncode == 2, done
        assert said in done.stderr and len(done.stderr.splitlines()) == 1 and not done.stdout, done
        assert not (tmp_path / "results").exists()
        ratios.append(seconds / spent(YARDSTICK, tmp_path)[0])
        if ratios[-1] < 5:
            break
    assert min(ratios) < 5, ratios


def test_a_refusal_imports_nothing_that_writes_reports_or_opens_connections(tmp_path: Path) -> None:
    program = (
        "import sys; from assay9 import cli; sys.argv = ['assay9', 'run', 'local', '--layr', 'vfs']; cli.main()\n"
        "print(sorted({'paramiko', 'jinja2', 'lxml', 'sqlite3', 'hypothesis'} & {*sys.modules}))"
    )
    _, done = spent([sys.executable, "-c", program], tmp_path)
    assert "did you mean '--layer'?" in done.stderr and done.stdout == "[]\n", done
