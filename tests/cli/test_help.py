"""Help is whole and readable at any width: sections, examples that work, no name cut, no type of Python."""

import re
import shlex

import pytest
from typer.main import get_command

from cosmeans.cli import app
from cosmeans.cli.examples import EXAMPLES
from cosmeans.cli.help import GROUPS, SECTIONS, section_of

GROUP = get_command(app)
COMMANDS = GROUP.commands


@pytest.fixture
def shown(monkeypatch, out):
    """shown(line, columns): the lines of a help."""

    def call(line, columns):
        monkeypatch.setenv("COLUMNS", str(columns))
        code, stdout, stderr = out(line)
        assert (code, stderr) == (0, "")
        return stdout.splitlines()

    return call


def flags_of(command):
    return [name for parameter in command.params for name in parameter.opts if name.startswith("-")]


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_is_whole_at_every_width(shown, name, columns):
    lines = shown(f"{name} --help", columns)

    words = set(re.findall(r"[^\s,]+", "\n".join(lines)))
    assert set(flags_of(COMMANDS[name])) <= words
    assert max(map(len, lines)) <= columns
    text = " ".join(" ".join(lines).split())
    assert all(p.metavar in text for p in COMMANDS[name].params if p.metavar)
    assert not re.search(r"<\w+>|…|\[default|\bbool\b|INTEGER|\{", text)
    assert all(f"cosmeans {line}" in text for _, line in EXAMPLES[name])


def test_every_command_is_in_one_group_and_has_three_examples():
    listed = [name for names in GROUPS.values() for name in names]

    assert sorted(listed) == sorted(COMMANDS) == sorted(EXAMPLES)
    assert all(len(examples) == 3 for examples in EXAMPLES.values())


def test_every_name_in_a_section_is_a_parameter_and_what_is_needed_first_is_first(shown):
    names = {parameter.name for command in COMMANDS.values() for parameter in command.params}
    listed = [name for section in SECTIONS.values() for name in section]

    assert len(listed) == len(set(listed))
    assert set(listed) <= names | {parameter.name for parameter in GROUP.params} | {"help"}
    assert "Options" not in {section_of(parameter.name) for parameter in COMMANDS["fit"].params}
    lines = [line for line in shown("fit --help", 80) if line]
    titles = [line for line in lines if not line.startswith(" ") and line[0] != "U"]
    assert titles[1:] == ["Arguments", "Clusters", "Input", "Output", "Speed", "Help", "Examples"]
    assert lines[lines.index("Clusters") + 1].strip().startswith("-k, --clusters")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_number_or_path_says_what_it_takes(name):
    for parameter in COMMANDS[name].params:
        takes_number = str(parameter.default).replace(".", "").isdigit()
        if parameter.param_type_name == "option" and not parameter.is_flag and not takes_number:
            assert parameter.metavar or parameter.name in ("epochs", "quantile", "threshold", "m"), parameter.name


@pytest.mark.parametrize("line", [line for examples in EXAMPLES.values() for _, line in examples])
def test_examples_are_read_as_they_stand(line):
    name, *arguments = shlex.split(line.partition(" < ")[0])
    command = COMMANDS[name]

    context = command.make_context(name, arguments)

    assert context.params
    assert not context.args


def test_all_commands_at_a_glance(shown):
    lines = shown("--help", 60)

    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    assert max(map(len, lines)) <= 60
    assert shown("", 60) == lines
