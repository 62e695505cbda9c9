"""Text of others never acts where it is shown: not on a terminal, not in Markdown, not in a spreadsheet."""

import ast
import pickle
import re
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import cosmeans
from cosmeans import errors
from cosmeans.printable import brief, cell, escaped, line, markdown, without_secrets, writable

# by their categories and names, not by the expression under test
ACTING = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp")]
ACTING += [chr(code) for code in (0x61C, *range(0x200E, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A))]
ANY = st.text(st.one_of(st.sampled_from(ACTING), st.characters(), st.sampled_from("=+-@<>&*_`[]\\#|~'\" \t\n0.)")))


def test_every_character_that_acts_is_shown_as_its_escape():
    found = {character: escaped(f"a{character}b") for character in ACTING}

    assert {character for character, shown in found.items() if character in shown} == set()
    assert found["\x1b"] == "a\\x1bb"
    assert found["\n"] == "a\\nb"
    assert found["\u202e"] == "a\\u202eb"
    assert found["\ud800"] == "a\\ud800b"
    assert "".join(found.values()).isprintable()


@given(ANY)
def test_what_is_shown_is_one_line_that_utf_8_holds(text):
    for show in (escaped, line, markdown):
        shown = show(text)
        shown.encode("utf-8")
        assert not set(ACTING) & set(shown)
        assert len(shown.splitlines()) <= 1
    assert escaped(escaped(text)) == escaped(text)


@given(ANY)
def test_markdown_has_no_markup_of_the_text(text):
    shown = markdown(text)

    assert not set("<>") & set(shown)
    assert not re.search(r"(?<!\\)(?:\\\\)*([*_`~|$]|\] ?[(\[:])", shown)
    assert not re.match(r"\d*[#+\-=:.)\[]", shown)
    assert not re.search("&(?!amp;|lt;|gt;)", shown)


@given(ANY)
def test_a_cell_is_not_a_formula_and_keeps_its_newlines(text):
    shown = cell(text)

    shown.encode("utf-8")
    assert not shown.strip().startswith(tuple("=+-@＝＋－＠"))
    assert not set(shown) & (set(ACTING) - set("\n\t\u061c\u200e\u200f"))
    assert shown.count("\n") == len(re.findall("\r\n|\r|\n", text))


@given(ANY)
def test_data_is_only_changed_where_utf_8_can_not_hold_it(text):
    shown = writable(text)

    assert shown.encode("utf-8").decode("utf-8") == re.sub(
        "[\ud800-\udfff]", lambda found: f"\\u{ord(found[0]):04x}", text
    )


@pytest.mark.parametrize("text", ["", "Zürich, 10 °C", "日本語", "שלום", "👩‍👩‍👧 x", 'it\'s "so"', "a  b"])
def test_common_text_stays_as_it_is(text):
    assert escaped(text) == writable(text) == cell(text) == text
    assert line(text) == markdown(text) == " ".join(text.split())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>alert(1)</script>", "&lt;script&gt;alert(1)&lt;/script&gt;"),
        ("# not a heading", r"\# not a heading"),
        ("1. first", r"1\. first"),
        ("[ ] task\nnext *line* [1]", r"\[ ] task next \*line\* [1]"),
        ("![x](javascript:a) `code`", r"![x\](javascript:a) \`code\`"),
    ],
)
def test_markdown_shows_markup_as_text(text, shown):
    assert markdown(text) == shown


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", ' "=1', "＝1", "\ufeff=1"])
def test_a_formula_gets_an_apostrophe(text):
    assert not cell(text).lstrip(" \t\n'\"").startswith(("=", "+", "-", "@", "＝")) or cell(text).startswith("'")


class Refuses:
    def __repr__(self):
        raise RuntimeError


@pytest.mark.parametrize(
    "value",
    [10**5000, Refuses(), "x" * 10**6, "a\nb\x1b", [[1.0] * 99] * 99, None, 1.5],
    ids=lambda value: type(value).__name__,
)
def test_a_value_in_a_message_is_short_and_no_error_of_its_own(value):
    shown = brief(value)

    assert len(shown) <= 200
    assert shown.isprintable()
    assert shown == repr_of(value) or len(repr_of(value)) > 200 or "can't be shown" in shown


def repr_of(value):
    try:
        return repr(value)
    except (ValueError, RuntimeError):
        return ""


@pytest.mark.parametrize("kind", [kind for kind in vars(errors).values() if isinstance(kind, type)])
def test_errors_and_warnings_have_one_printable_line(kind):
    if not issubclass(kind, errors.CosmeansError | errors.CosmeansWarning) or kind is errors.FeatureNamesError:
        pytest.skip("not one of ours, or of several lines on purpose")
    told = kind("no such file: a\x1b[31m\nb\udcff\u202e.npy")

    assert str(told) == "no such file: a\\x1b[31m\\nb\\udcff\\u202e.npy"
    assert str(pickle.loads(pickle.dumps(told))) == str(told)


# the places through which everything goes that is shown, and those that only look at a stream
DOORS = {"console.py", "cli/results.py", "__main__.py", "cli/stream.py", "cli/help.py"}
SHOWN = {"sys.stderr", "sys.stdout", "sys.__stderr__", "sys.__stdout__", "warnings.warn", "print", "Console",
         "typer.echo", "typer.secho", "tqdm.write", "os.write"}  # fmt: skip


def test_everything_that_is_shown_goes_through_one_of_the_doors():
    """What is not written there is not made printable, and asks more of a stream than a stream must know."""
    package = Path(cosmeans.__file__).parent
    found = [
        f"{path.relative_to(package)}:{node.lineno} {ast.unparse(node)}"
        for path in package.rglob("*.py")
        if path.relative_to(package).as_posix() not in DOORS
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in SHOWN
    ]

    assert found == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("No such file: https://x.org/a.npy?token=1.", "No such file: https://x.org/a.npy."),
        ("s3://key:se/cret@bucket/a", "s3://bucket/a"),
        ("http://h:80/a@b, http://me:w@h:80/a@b.", "http://h:80/a@b, http://h:80/a@b."),
        ("s3://key:secret@bucket/a, 's3://b/c?d=e'", "s3://bucket/a, 's3://b/c'"),
        ("url=URL('https://me:word@x.org/?a=b#c')", "url=URL('https://x.org/')"),
        ("hf://datasets/me/mine@main/a.parquet", "hf://datasets/me/mine@main/a.parquet"),
        ("is it a ratio a://b? or me@x.org?", "is it a ratio a://b? or me@x.org?"),
        ("C:/a?b", "C:/a?b"),
    ],
)
def test_urls_are_shown_without_credentials(text, shown):
    assert without_secrets(text) == shown
    assert str(errors.FileError(text)) == shown
