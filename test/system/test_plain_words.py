"""How the documents read: lines that fit, sentences that can be read aloud, no private words."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINE = 120  # columns
SENTENCE = 40  # words
PAGES = [ROOT / "README.md", *(p for d in ("docs", "engines", "samples", "weights", "benchmarks", "assets", "test")
                               for p in sorted((ROOT / d).rglob("*.md")))]  # fmt: skip


def sentences(text: str) -> Iterator[str]:
    """Yields the sentences of a Markdown page: of paragraphs, of each item of a list, of each cell of a table."""
    text = re.sub(r"^(```|~~~).*?^\1", "\n", text, flags=re.S | re.M)  # code
    text = re.sub(r"<!--.*?-->", "\n\n", text, flags=re.S)
    text = re.sub(r"^(    |\t)(?![-*\d ]).*$", "", text, flags=re.M)
    text = re.sub(r"^#+ .*$|^\|[-:| ]+\|$", "\n\n", text, flags=re.M)
    text = re.sub(r"\]\([^)\s]*\)", "]", text)
    text = re.sub(r"`[^`]*`", lambda m: re.sub(r"[.!?;|]", "_", m[0]), text)
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.M)
    text = re.sub(r"^\|.*$", lambda m: "\n\n" + m[0].replace("|", "\n\n") + "\n\n", text, flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?])[*)\"]*\s+", " ".join(paragraph.split()))


if __name__ == "__main__":
    import sys
    for page in PAGES:
        t = page.read_text()
        long = [i for i, l in enumerate(t.splitlines(), 1) if len(l) > LINE and l[0] != "|"]; rows = [l for l in t.splitlines() if len(l) > LINE and l[0] == "|"]
        bad = [s for s in sentences(t) if len(s.split()) > SENTENCE]
        words = re.findall(r"\b(?:told|said|heard|eyes|answers?|hours? \d+|\w+ hours?|look_back|train_eyes|vae_walk)\b", t)
        print(page.relative_to(ROOT), len(t.splitlines()), "long lines", len(long), "rows", len(rows), max(map(len, rows), default=0), "long sentences", len(bad), words[:12])
        if len(sys.argv) > 1 and sys.argv[1] in str(page):
            for s in bad: print("   *", len(s.split()), s)
