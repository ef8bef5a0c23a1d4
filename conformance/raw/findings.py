"""What a client reports of a server that does not answer, or not as it may."""

from __future__ import annotations

from conformance.errors import Finding, Undrivable
from conformance.raw.expectation import OK, Expect, Rerror, allowed, names, severity_of, spell
from conformance.vocabulary import errno_name
from protocol.registry import Message


class NoReply(Finding):
    """The server did not reply to a request."""

    def __init__(self, text: str, call: str = "") -> None:
        super().__init__(text, "no-reply", {"call": call})


class HungUp(Finding):
    """The server closed the connection instead of replying."""

    def __init__(self, text: str, call: str = "") -> None:
        super().__init__(text, "hung-up", {"call": call})


class WrongAnswer(Finding):
    """A well-formed reply that the case does not allow; it names the request and the errno (OK: success)."""

    def __init__(self, request: Message, reply: Message | Rerror, errno: int, expect: Expect) -> None:
        errnos, asked = allowed(expect), spell(request)
        self.request = type(request).__name__
        self.errno = errno
        seen = errno_name(errno) if errno != OK else "success"
        values = {"call": self.request, "what": asked, "seen": seen, "expected": names(errnos)}
        if errno == OK:
            super().__init__(f"{asked} succeeded with {spell(reply)}, expected {names(errnos)}", "errno", values)
        elif errnos == {OK}:
            super().__init__(f"{asked} failed with {seen}, expected success", "errno", values)
        else:
            text = f"{asked} was refused with {seen}, expected {names(errnos)}"
            super().__init__(text, "errno-choice", values, severity_of(expect))


class NeedsMessage(Undrivable):
    """The case needs a message that the server does not implement, according to the probe before the first case."""

    def __init__(self, message: str, how: str) -> None:
        super().__init__(f"needs {message}: not implemented, {how}")
        self.message = message
        self.how = how
