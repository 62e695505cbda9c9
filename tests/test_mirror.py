"""The test of a file is where one guesses it: tests/ mirrors src/cosmeans/ by name."""

from pathlib import Path

import pytest

import cosmeans

TESTS, PACKAGE = Path(__file__).parent, Path(cosmeans.__file__).parent

# files without a test of their own name: where they are tested, through what people call
ELSEWHERE = {
    "cli/test_commands.py": """__main__ version cli/app cli/demo cli/fitting cli/flags cli/given
        cli/interrupt cli/labelling""",
    "cli/test_help.py": "cli/examples",
    "cli/test_hostile.py": "cli/clusters",
    "cli/test_streams.py": "cli/results",
    "cli/test_tasks.py": "cli/row_tasks cli/stream",
    "containers/test_read.py": """containers/arrays containers/arrow containers/classes containers/columns
        containers/converted containers/frames containers/nouns containers/tensors""",
    "analysis/test_queries.py": "analysis/assignments",
    "backends/test_accumulate.py": """backends/cpu/accumulate backends/cpu/kernels/accumulate backends/cpu/update
        backends/cpu/kernels/update backends/cpu/kernels/tree""",
    "backends/test_assign.py": "backends/reference",
    "backends/gpu/rows/test_sources.py": "backends/gpu/rows/inspected",
    "backends/cpu/test_assign.py": "backends/cpu/backend backends/cpu/kernels/refine",
    "backends/cpu/test_bounds.py": "backends/cpu/kernels/bounds backends/cpu/targets",
    "backends/cpu/test_rows.py": "backends/cpu/kernels/norms",
    "backends/cpu/test_scores.py": "backends/cpu/kernels/scores",
    "backends/cpu/test_strategy.py": "backends/cpu/host",
    "backends/cpu/kernels/test_certify.py": "backends/cpu/kernels/types",
    "backends/cpu/kernels/test_fused.py": "backends/cpu/kernels/registers",
    "backends/cpu/screens/test_screen.py": """backends/cpu/screens/centred backends/cpu/screens/float32
        backends/cpu/screens/pca backends/cpu/kernels/encode backends/cpu/kernels/gemm""",
    "_estimator/test_fitted_state.py": "_estimator/conversions _estimator/fitting",
    "test_checkpoint.py": "_estimator/resuming",
    "label_files/test_folder.py": "label_files/columns label_files/manifest label_files/naming label_files/partitions",
    "page/test_findings.py": "page/statistics",
    "rows/test_opening.py": """rows/extras rows/files rows/formats rows/joined rows/paths rows/place rows/reader
        rows/suffixes rows/table
        rows/table_rows rows/vector_column rows/readers/arrays rows/readers/arrow rows/readers/csv rows/readers/hdf5
        rows/readers/json_lines rows/readers/lance rows/readers/lines rows/readers/parquet rows/readers/sliced
        rows/readers/vecs rows/readers/zarr""",
    "rows/test_remote.py": "rows/ranges",
    "rows/test_texts.py": "cli/texts",
    "test_atomic.py": "locks paths renaming system_errors",
    "test_lloyd.py": "contracts data group observer result",
    "test_model_file.py": "records",
    "test_options.py": "choices",
    "test_plot.py": "plot/choice plot/figures plot/fit plot/moves",
    "test_public_api.py": "errors/shared",
    "test_report.py": """page/analysis page/examples page/sample page/write""",
}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py":
            yield path.relative_to(PACKAGE).with_suffix("")


def mirrored(module):
    return TESTS / module.with_name(f"test_{module.name}.py")


def test_every_module_has_a_test_of_its_name_or_is_listed():
    listed = {name for names in ELSEWHERE.values() for name in names.split()}
    missing = [module.as_posix() for module in modules() if not mirrored(module).exists()]

    untold, gone = sorted(set(missing) - listed), sorted(listed - {module.as_posix() for module in modules()})
    assert not untold, "write tests/FOLDER/test_NAME.py, or say in ELSEWHERE where it is tested"
    assert not gone, "remove from ELSEWHERE what is no longer there"


@pytest.mark.parametrize("name", ELSEWHERE)
def test_where_a_module_is_tested_instead_exists(name):
    assert (TESTS / name).exists()


def test_tests_of_a_folder_are_in_the_folder_of_that_name():
    """Beside whole calls, which are in tests/ itself, what is made at random (fuzz), and what users do (walks)."""
    folders = {path.relative_to(TESTS).parent.as_posix() for path in TESTS.rglob("test_*.py")} - {".", "fuzz", "walks"}

    assert all((PACKAGE / folder).is_dir() for folder in folders), folders
