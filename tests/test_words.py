"""What a user reads is plain English: no words that only this project would use, none that sound translated."""

import ast
import re
from pathlib import Path

import pytest
from typer.main import get_command

from cosmeans.cli import app

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "cosmeans").rglob("*.py"))
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "src").rglob("*.j2")])
PRIVATE = r"\b(desks?|ferry|ferries|lend|lends|lent|rungs?|doubtful)\b"
TRANSLATED = (
    r"\b(beside|anew|whoever|for ever|any longer|forth and back|leave [\w ]*away)\b"
    r"|\b(lie|lies|lay) (in|on|near|beside|within|together|behind|there|between|where)\b"
    r"|(?<!there )\b(is|are) no (?!(longer|more|farther|larger|smaller|better|faster|slower)\b)[a-z]"
    r"|\bone a (row|line|cluster)\b|\bmust be a text\b|\bstands? there\b"
)
WORDS = re.compile(f"{PRIVATE}|{TRANSLATED}", re.IGNORECASE)
SAYS = re.compile(r"(Error|Warning|\bwarn|\bsay|_say|_say_once|damaged)$")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_pages_are_in_plain_english(page):
    assert found(page.read_text(encoding="utf-8")) == []


def test_help_is_in_plain_english():
    for name, command in get_command(app).commands.items():
        texts = [command.help or "", *(parameter.help or "" for parameter in command.params)]
        assert found(" ".join(texts)) == [], name


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(ROOT / "src").as_posix())
def test_messages_and_docstrings_are_in_plain_english(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    said = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and SAYS.search(ast.unparse(node.func))]
    texts = [constants(argument) for call in said for argument in call.args]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts += [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]

    assert [words for text in texts for words in found(text)] == []


def constants(node):
    """The fixed parts of a string, as they follow one another."""
    parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str)]
    return " ".join(parts)


def found(text):
    """Each word that is not wanted, with a little of what is around it."""
    text = " ".join(text.split())
    return [text[max(0, match.start() - 20) : match.end() + 20] for match in WORDS.finditer(text)]


@pytest.mark.parametrize(
    "text", ["The labels lie in labels.npy.", "it is no folder", "One a row.", "lends its desk", "Leave the key away"]
)
def test_what_is_not_wanted_is_found(text):
    assert found(text)


@pytest.mark.parametrize("text", ["There is no such file.", "The key is no longer needed.", "a belief besides that"])
def test_what_is_wanted_is_not_found(text):
    assert not found(text)
