"""What is watched while a soak runs. A monitor gives numbers by the name of their series; it judges nothing."""

from __future__ import annotations

from typing import Protocol


class Monitor(Protocol):
    """One source of numbers."""

    def sample(self) -> dict[str, float]:
        """The numbers now; empty when there is nothing to see. Raises OSError when the source is gone."""


__all__ = ["Monitor"]
