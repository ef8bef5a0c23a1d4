"""The exceptions of this package: the machine, SSH or a disk failed, or the user's request is impossible.

Neither is ever about the share under test.
"""

from __future__ import annotations


class InfrastructureError(Exception):
    """Something under the test broke: the guest, SSH, a package, a disk.

    Never an ``AssertionError``: pytest and Allure must show it as *broken*, not as *failed*, and a run that ends with
    it exits with status 3 (worth a retry).

    ``message`` is one line that says what is wrong, ``remedy`` one line that says what to do about it.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = " ".join(message.split())
        self.remedy = " ".join(remedy.split())
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} — {self.remedy}" if self.remedy else self.message


class UsageError(Exception):
    """The user's request is impossible: an unknown word, a missing file. One line with the remedy; exit status 2."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))
