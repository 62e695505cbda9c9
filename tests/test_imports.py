"""import-linter sees every import of the package."""

import re
from pathlib import Path

import cosmeans

PACKAGE = Path(cosmeans.__file__).parent
BY_NAME = re.compile(r"""(?:import_module|__import__)\(\s*f?["']([\w.]+)""")


def test_no_module_of_the_package_is_imported_by_its_name():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()} imports {name}"
        for path in PACKAGE.rglob("*.py")
        if path != PACKAGE / "__init__.py"  # what it imports by name it imports for type checkers, too
        for name in BY_NAME.findall(path.read_text(encoding="utf-8"))
        # the GPU's modules are loaded where there is a GPU, and are below all that do so
        if name.startswith("cosmeans") and not name.startswith("cosmeans.backends.gpu")
    }

    assert not found
