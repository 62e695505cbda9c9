"""The page: template, style, script and data in one file, which may load nothing and run nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any, Protocol

from cosmeans.containers.converted import on_host
from cosmeans.page import charts, page_data
from cosmeans.page.analysis import Analysis, Asked
from cosmeans.page.examples import clean
from cosmeans.page.findings import findings
from cosmeans.version import __version__

_LONGEST_TITLE = 120
# in the order in which they are put together; each says what it takes from those before
SCRIPTS = ("parts", "table", "search", "panel", "rows", "zoom", "labels", "map", "save", "start")


class Fitted(Protocol):
    """What a page says of a fitted `KMeans`."""

    init: Any
    counts_: Any
    history_: Any
    stop_reason_: Any
    n_features_in_: Any
    random_state: Any
    random_state_: Any
    verbose: Any


def render(found: Analysis, asked: Asked, model: Fitted, title: str) -> bytes:
    """The page in UTF-8."""
    from jinja2 import Environment, StrictUndefined

    script, style = _script(), _text("page.css")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    data = page_data.page_data(found, asked, model.random_state_)
    page = environment.from_string(_text("page.html.j2")).render(
        **_facts(found, asked, model),
        compared=_compared(data["comparison"]),
        title=clean(title, _LONGEST_TITLE),
        data=script_safe(data),
        packed=found.rows.packed,
        script=script,
        style=style,
        script_hash=_digest(script),
        box={
            "width": charts.WIDTH,
            "height": charts.HEIGHT,
            "left": charts.LEFT,
            "right": charts.WIDTH - charts.RIGHT,
            "top": charts.TOP,
            "floor": charts.HEIGHT - charts.BOTTOM,
        },
        version=__version__,
    )
    return page.encode("utf-8")


def script_safe(data: Any) -> str:
    """JSON that no text in it can end: within a script element only a "<" could."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _facts(found: Analysis, asked: Asked, model: Fitted) -> dict[str, Any]:
    """What the template says in words, tables and charts."""
    history, stop = model.history_, model.stop_reason_
    fitted = on_host(model.counts_).numpy()
    similarity = found.placed.similarity[found.placed.kept]
    return {
        "figures": page_data.key_figures(found.placed, found.clusters, history, stop, model.n_features_in_),
        "findings": findings(found.placed, found.clusters, found.flags, history, stop, fitted),
        "convergence": charts.convergence(history, int(fitted.sum())) if len(history) else [],
        "distributions": [charts.sizes(found.clusters.size), charts.histogram(similarity, found.flags.odd_below)],
        "epochs": page_data.epoch_table(history),
        "found": found,
        "asked": asked,
        "topics_differ": int(found.topic.max()) + 1 < len(found.topic),
        "n_clusters": len(found.clusters.size),
        "seed": model.random_state if isinstance(model.random_state, int) else model.random_state_,
        "init": model.init if isinstance(model.init, str) else "given",
    }


def _compared(columns: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the template says of another model."""
    if columns is None:
        return None
    started, ended = columns["started"], columns["nEnded"]
    words = f"{_clusters(started)} of this model new, and {_clusters(ended)} of the other one ended."
    return columns | {
        "share": charts.percent(100 * columns["stayed"] / max(1, columns["rows"])),
        "words": words.replace("new, and", "are new, and" if started != 1 else "is new, and"),
    }


def _clusters(count: int) -> str:
    return f"{count:,} cluster{'' if count == 1 else 's'}"


def _text(name: str) -> str:
    return (files("cosmeans.page") / name).read_text(encoding="utf-8")


def _script() -> str:
    """The scripts in one function, so that none of their names is seen outside."""
    parts = "\n".join(_text(f"scripts/{name}.js") for name in SCRIPTS)
    return f'"use strict";\n(() => {{\n{parts}\n}})();'


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
