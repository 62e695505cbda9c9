"""What the code cites of the documentation is there: rules, equations, pages, and their numbered sections."""

import re
from pathlib import Path

import pytest

import cosmeans

PACKAGE = Path(cosmeans.__file__).parent
DOCS = Path(__file__).parent.parent / "docs"
ALGORITHM = (DOCS / "algorithm.md").read_text(encoding="utf-8")
RULES = set(re.findall(r"^\*\*Rule (\d+)", ALGORITHM, re.MULTILINE))
EQUATIONS_OF = {
    page: re.findall(r"\(eq\. (\d+)\)$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    for page in ("algorithm.md", "proofs.md")
}
EQUATIONS = {number for found in EQUATIONS_OF.values() for number in found}
FILES = sorted(path for end in ("py", "cu") for path in PACKAGE.rglob(f"*.{end}"))


def numbers(pattern, text):
    """All numbers after a word, with those of "2 and 3", "9 to 11" and "1, 2"."""
    for found in re.findall(pattern + r" (\d+(?:(?:,| and| to) \d+)*)", text, re.IGNORECASE):
        yield from re.findall(r"\d+", found)


def test_the_definition_numbers_its_rules_and_equations_without_gaps():
    assert sorted(map(int, RULES)) == list(range(1, len(RULES) + 1))
    every = [int(number) for found in EQUATIONS_OF.values() for number in found]
    assert sorted(every) == list(range(1, len(every) + 1))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_what_a_file_cites_exists(path):
    text = path.read_text(encoding="utf-8")

    assert set(numbers(r"\brules?", text)) <= RULES
    assert set(numbers(r"\beqs?\.", text)) <= EQUATIONS
    for page, section in re.findall(r"docs/([\w/-]+\.md)(?:, (\d+)\b)?", text):
        assert (DOCS / page).exists(), f"docs/{page}"
        headings = (DOCS / page).read_text(encoding="utf-8")
        assert not section or re.search(rf"^#+ {section}\. ", headings, re.MULTILINE), f"docs/{page}, section {section}"
    for page, cited in re.findall(r"docs/([\w/-]+\.md), (eqs?\. \d+(?:(?:,| and| to) \d+)*)", text):
        assert set(numbers("eqs?\\.", cited)) <= set(EQUATIONS_OF[page]), f"docs/{page}, {cited}"
    assert not re.search(r"\(numerics\b|numerics:", text), "a file outside of the project"
