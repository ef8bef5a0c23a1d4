"""Coverage-guided fuzzing of decoding: hostile bytes give a message or the one documented error, in bounded memory.

    pip install -e .[fuzz]
    python -m tests.protocol.fuzz_decode CORPUS -runs=10000000 -seed=1 -max_len=4096

An input is one byte that says what follows, then the bytes.  The first byte selects the dialect, whether to correct the
size field (so that most inputs get past it), or a Treaddir listing instead of a frame.  The decoding functions are
generated, so they are instrumented one by one.  Options that begin with a dash are libFuzzer's.  CORPUS is a folder;
when it is empty, it starts with the golden frames.
"""

from __future__ import annotations

import sys
import tracemalloc
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["protocol"]):
    from protocol import codec, dirents
    from protocol.constants import DT_DIR, QTDIR
    from protocol.fields import Dialect, Qid

from tests.golden.frames import read

DIALECTS = list(Dialect)
DIRENTS = 6
MEASURED = 512
"""Number of inputs between two measurements of the memory that decoding takes; measuring is slow."""
ROOM = 4096
"""Bytes that the message object and its parts, or the exception and its text, may take beside what the frame holds."""

_count = 0


def one(data: bytes) -> None:
    """Decode one input.  Any exception from it is a finding."""
    global _count  # noqa: PLW0603
    if not data:
        return
    kind, body = data[0] % (DIRENTS + 1), data[1:]
    if kind != DIRENTS and kind >= len(DIALECTS) and len(body) >= 4:
        body = len(body).to_bytes(4, "little") + body[4:]
    _count += 1
    if _count % MEASURED:
        decode(kind, body)
        return
    tracemalloc.start()
    try:
        decode(kind, body, again=False)
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= ROOM + len(body), f"{len(body)} bytes made decoding take {peak}"


def decode(kind: int, body: bytes, again: bool = True) -> None:
    """A decoded message must encode to the same bytes."""
    if kind == DIRENTS:
        entries = b"" if again else None
        try:
            for entry in dirents.decode_dirents(body):
                if entries is not None:
                    entries += dirents.encode_dirent(*entry)
        except codec.ProtocolError:
            return
        assert entries is None or entries == body
        return
    dialect = DIALECTS[kind % len(DIALECTS)]
    try:
        message = codec.decode(body, dialect)
    except codec.ProtocolError:
        return
    assert not again or codec.frame(message, dialect) == body


def instrument() -> None:
    """The generated decoding functions."""
    for decoders in codec._DECODERS.values():
        for number, decoder in decoders.items():
            decoders[number] = atheris.instrument_func(decoder)


def begin(corpus: Path) -> None:
    """Golden frames, each with the first byte for its dialect."""
    corpus.mkdir(parents=True, exist_ok=True)
    if any(corpus.iterdir()):
        return
    for number, golden in enumerate(read()):
        kind = DIALECTS.index(golden.dialect)
        (corpus / f"golden-{number}").write_bytes(bytes([kind + number % 2 * len(DIALECTS)]) + golden.frame)
    listing = b"".join(dirents.encode_dirent(Qid(QTDIR, 0, 9), 1, DT_DIR, name) for name in (b".", b"..", b"name"))
    (corpus / "listing").write_bytes(bytes([DIRENTS]) + listing)


def main() -> None:
    """Run the command."""
    corpora = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if len(corpora) != 1:
        sys.exit(__doc__)
    begin(Path(corpora[0]))
    instrument()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
