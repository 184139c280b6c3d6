"""How documents and code read: lines that fit, sentences that can be read aloud, words of the field."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLUMNS = 120
WORDS = 40  # of a sentence
# A diary, and a card that `thfm publish` makes of weights/nano-card.md and of reports.
RECORDS = {"docs/history/training-log.md", "weights/nano/README.md"}
FOLDERS = (
    "docs",
    "engines",
    "examples",
    "samples",
    "weights",
    "benchmarks",
    "assets",
    "config",
    "launch",
    "msg",
    "srv",
    "thfm_ros",
    "tools",
)


def files(*suffixes: str) -> list[str]:
    found = [p for folder in FOLDERS for p in (ROOT / folder).rglob("*") if p.suffix in suffixes]
    found += [p for p in ROOT.iterdir() if p.suffix in suffixes]
    return sorted(str(p.relative_to(ROOT)) for p in found)


PAGES = [page for page in files(".md", ".rst") if page not in RECORDS]
TEXTS = sorted({*PAGES, *files(".yaml", ".py", ".sh", ".msg")})

# What a word stands for is in the standard terms of the field, or in plain English.
PRIVATE = {
    r"told(?! apart)|said|heard|HEARD": "features, hidden, heatmap_logits, reported",
    r"eyes|train_eyes": "pyramid",
    r"[Aa]nswers?": "prediction, result",
    r"(?:\w+ )?hours? \d+|\w+(?:st|nd|rd|th) hour": "run N",
    r"own_places|one_person|focused|see_as|_quiet|SHARP": "patch_logits, person_prior, refine_to_mode, share_weights",
    r"look_back": "temporal_taps",
    r"vae_walk": "vae_forward",
}
# People and animals have eyes.
ANATOMY = {f"thfm_ros/synth/{name}.py" for name in ("body", "build_assets", "nature", "outfit")}


def private_words(text: str) -> list[str]:
    """The private words in a text, each with what to say instead."""
    return [
        f"{found[0]} ({better})" for word, better in PRIVATE.items() for found in re.finditer(rf"\b(?:{word})\b", text)
    ]


def prose(page: str) -> str:
    """A page without code, comments, headings and the targets of links."""
    text = re.sub(r"^```.*?^```", "\n", (ROOT / page).read_text(), flags=re.S | re.M)
    text = re.sub(r"<!--.*?-->|^#+ .*$|^\|[-:| ]+\|$", "\n\n", text, flags=re.S | re.M)
    return re.sub(r"\]\([^)\s]*\)", "]", text)


def sentences(page: str) -> Iterator[str]:
    """The sentences of paragraphs, of items of lists, and of cells of tables."""
    text = re.sub(r"``?[^`]*``?", lambda code: re.sub(r"[.!?|]", "_", code[0]), prose(page))
    text = re.sub(r"^\s*([-*]|\d+\.) ", "\n\n", text, flags=re.M)
    text = re.sub(r"^\|.*$", lambda row: row[0].replace("|", "\n\n"), text, flags=re.M)
    for paragraph in re.split(r"\n\s*\n", text):
        yield from re.split(r"(?<=[.!?])[*)\"]*\s+", " ".join(paragraph.split()))


@pytest.mark.parametrize("page", [text for text in TEXTS if not text.endswith((".py", ".sh"))])
def test_lines_fit(page: str) -> None:
    # A table that the code generates has one line a row, however long. Ruff sees to the lines of the code.
    text = re.sub(r"<!-- (node:\w+) -->.*?<!-- /\1 -->", "", (ROOT / page).read_text(), flags=re.S)
    assert not [line for line in text.splitlines() if len(line) > COLUMNS]


@pytest.mark.parametrize("page", PAGES)
def test_sentences_can_be_read_aloud(page: str) -> None:
    assert not [s for s in sentences(page) if len(s.split()) > WORDS]


@pytest.mark.parametrize("page", PAGES)
def test_documents_speak_the_words_of_the_field(page: str) -> None:
    assert not private_words(re.sub(r"``?[^`]*``?", "", prose(page)))


@pytest.mark.parametrize("file", sorted({*TEXTS} - {*PAGES} - ANATOMY))
def test_code_speaks_the_words_of_the_field(file: str) -> None:
    text = (ROOT / file).read_text()
    if file.endswith(".yaml"):  # its keys are the code's
        text = "\n".join(re.findall(r"#.*", text))
    assert not private_words(text)


@pytest.mark.parametrize("file", sorted(ANATOMY))
def test_exceptions_are_needed(file: str) -> None:
    assert (ROOT / file).is_file(), f"{file} is gone: take it from the lists above"
    assert private_words((ROOT / file).read_text()), f"{file} is plain now: take it from the lists above"


def test_the_front_page_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120
