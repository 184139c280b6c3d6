"""Tables of topics and parameters for the documents, from the code: `python -m thfm_ros.nodes.reference FILE...`.

In a document, the lines between `<!-- node:NAME -->` and `<!-- /node:NAME -->` belong to this module.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from thfm_ros.nodes.launch_arguments import PERCEPTION
from thfm_ros.nodes.parameters import PARAMETERS
from thfm_ros.nodes.topics import PUBLISHED, SUBSCRIBED, Topic
from thfm_ros.stream.ledger import DROPS


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _topics(topics: Sequence[Topic]) -> str:
    qos = {"sensor": "best effort", "reliable": "reliable"}
    return _table(
        ("topic", "type", "QoS", "what"),
        (
            (
                f"`{t.name}`",
                f"`{t.type}`",
                f"{qos[t.qos]}, keep last {t.depth}",
                t.description + (f" (with `{t.optional}`)" if t.optional else ""),
            )
            for t in topics
        ),
    )


def _main(topic: Topic) -> bool:
    """Whether a newcomer wants to know it at once: nothing twice, nothing that an optional package adds."""
    return not topic.optional and not topic.name.endswith(
        ("image_color", "camera_info", "compressed", "compressedDepth")
    )


def _parameters() -> str:
    when = {"start": "at start only", "configure": "next configure", "activate": "next activate", "now": "at once"}

    def default(value: object) -> str:
        if isinstance(value, list):
            return ", ".join(f"`{v}`" for v in value)
        return f"`{json.dumps(value)}`"

    def allowed(name: str) -> str:
        spec = PARAMETERS[name]
        if spec.limits:
            return f"{spec.limits[0]:g} to {spec.limits[1]:g}"
        return ", ".join(spec.choices) if spec.choices else ""

    return _table(
        ("parameter", "default", "range", "changes count", "what"),
        ((f"`{n}`", default(s.default), allowed(n), when[s.effect], s.description) for n, s in PARAMETERS.items()),
    )


def _arguments() -> str:
    rows = ((f"`{a.name}`", f"`{json.dumps(a.default)}`", a.description) for a in PERCEPTION)
    return _table(("argument", "default", "what"), rows)


def tables() -> dict[str, str]:
    """name -> Markdown."""
    return {
        "topics": _table(("topic", "what"), ((f"`{t.name}`", t.description) for t in PUBLISHED if _main(t))),
        "subscribed": _topics(SUBSCRIBED),
        "published": _topics(PUBLISHED),
        "parameters": _parameters(),
        "arguments": _arguments(),
        "drops": _table(("reason", "what happened"), ((f"`{k}`", v) for k, v in DROPS.items())),
    }


def fill(text: str) -> str:
    """The document with every marked table as the code has it. KeyError for a table that does not exist."""
    known = tables()

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        return f"<!-- node:{name} -->\n{known[name]}\n<!-- /node:{name} -->"

    return re.sub(r"<!-- node:(\w+) -->.*?<!-- /node:\1 -->", replace, text, flags=re.DOTALL)


def main(files: Sequence[str]) -> None:
    for file in map(Path, files):
        file.write_text(fill(file.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
