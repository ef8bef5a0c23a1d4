"""The templates of pages: values are always escaped, and an unknown name is an error."""

from __future__ import annotations

from jinja2 import Environment as Templates
from jinja2 import PackageLoader, StrictUndefined

__all__ = ["Templates", "templates_of"]


def templates_of(package: str) -> Templates:
    """The templates in the folder ``templates`` of a package."""
    return Templates(
        loader=PackageLoader(package, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
