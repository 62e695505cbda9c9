"""Tests that only Linux can run say so, so that macOS and Windows leave them out."""

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
NEEDS = re.compile(
    r"os\.fork\b|children\.|forking\.py|guarded\.|/proc/|RLIMIT|\"resource\"|mkfifo|/dev/|SIGKILL|SIGALRM|SIGTERM|SIGINT|setitimer|"
    r"pthread_kill|os\.kill|geteuid|getuid|openpty|AF_UNIX|preexec_fn|start_new_session|mprotect|umask|chmod\(|symlink|"
    r"os\.link\(|nvcc|get_context\(\"fork|flock"
)


def parts_of(source):
    """What a module defines: the text of each name, with its decorators."""
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            found[node.name] = "\n".join(source.splitlines()[first - 1 : node.end_lineno])
        elif isinstance(node, ast.Assign):
            text = ast.get_source_segment(source, node)
            found |= {target.id: text for target in node.targets if isinstance(target, ast.Name)}
    return found


def names_that_need_linux(parts):
    """Those that say so by what they use, and those that use them."""
    needing = {name for name, text in parts.items() if NEEDS.search(text)}
    while True:
        using = re.compile(r"\b(" + "|".join(map(re.escape, needing)) + r")\b") if needing else None
        more = {name for name, text in parts.items() if using and name not in needing and using.search(text)}
        if not more:
            return needing
        needing |= more


def test_what_needs_a_fork_proc_limits_pipes_or_signals_is_marked():
    unmarked = []
    for path in sorted(TESTS.rglob("test_*.py")):
        if path == Path(__file__):
            continue
        parts = parts_of(path.read_text(encoding="utf-8"))
        if "pytest.mark.linux" in parts.get("pytestmark", ""):
            continue
        needing = sorted(name for name in names_that_need_linux(parts) if name.startswith("test_"))
        unmarked += [f"{path.relative_to(TESTS)}: {name}" for name in needing if "pytest.mark.linux" not in parts[name]]

    assert not unmarked, "add @pytest.mark.linux to\n" + "\n".join(unmarked)
