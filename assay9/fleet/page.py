"""The page that shows the progress of a fleet: index.html of its directory, which reloads itself until all is done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from assay9.fleet.shards import Outcome
from conformance.evidence.overview import duration

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
{% if not done %}<meta http-equiv="refresh" content="5">{% endif %}
<title>{{ ended|length }} of {{ total }} shards</title>
<style>
:root { color-scheme: light dark } body { font: 15px/1.4 system-ui, sans-serif; margin: 1.5rem; max-width: 70rem }
table { border-collapse: collapse } td, th { text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }
.bad { color: #c33; font-weight: 600 } progress { width: 100% }
</style>
<h1>{{ ended|length }} of {{ total }} shards have ended</h1>
<progress max="{{ total }}" value="{{ ended|length }}"></progress>
{% if runs %}<h2>Joined</h2><table>
{% for job, line in runs.items() %}<tr><td>{{ job }}<td>{{ line }}{% endfor %}</table>{% endif %}
<h2>Shards</h2>
<table><tr><th>shard<th>exit status<th>took<th>machine<th>its last line
{% for one, link in ended %}<tr><td>
{% if link %}<a href="{{ link }}">{{ one.name }}</a>{% else %}{{ one.name }}{% endif %}
<td{% if one.status %} class="bad"{% endif %}>{{ one.status }}<td>{{ duration(one.seconds) }}<td>{{ one.host }}
<td>{{ one.said if one.status else "" }}{% endfor %}
</table>
</html>
"""


def write_page(
    place: Path, total: int, ended: Mapping[str, tuple[Outcome, Path | None]], runs: Mapping[str, str], *, done: bool
) -> None:
    """Write index.html atomically; failed shards first, then the latest. Raises OSError."""
    rows = [*ended.values()]
    rows.reverse()
    rows.sort(key=lambda pair: pair[0].status == 0)
    templates = Environment(autoescape=True, undefined=StrictUndefined)
    links = [(one, _report(path, place) if path else "") for one, path in rows]
    text = templates.from_string(_PAGE).render(total=total, ended=links, runs=runs, done=done, duration=duration)
    new = place / ".index.html.new"
    new.write_text(text, encoding="utf-8", errors="backslashreplace")
    new.replace(place / "index.html")


def _report(path: Path, place: Path) -> str:
    report = path / "report.html"
    return str((report if report.exists() else path).relative_to(place))
