"""A notebook as a user writes one, executed by a kernel: what each cell shows."""

import pytest

pytestmark = pytest.mark.soak


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """shown(cell, ...): for each cell, its outputs as (type, set of formats); text on stderr is a type of its own."""
    nbclient = pytest.importorskip("nbclient", reason="pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="pip install nbclient ipykernel")
    import nbformat

    monkeypatch.chdir(tmp_path)

    def run(*cells):
        book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        nbclient.NotebookClient(book, timeout=300, kernel_name="python3").execute()
        return [
            [
                (out.output_type, out.text if out.output_type == "stream" else set(out.get("data", ())))
                for out in cell.outputs
            ]
            for cell in book.cells
        ]

    return run


FITTED = """
from cosmeans import KMeans, choose_k
from cosmeans.demo_data import sample

x, texts = sample()
kmeans = KMeans(20, epochs=3, random_state=0, verbose=0).fit(x[:2000])
"""
PICTURE = [("execute_result", {"text/plain", "image/png"})]


def test_a_plot_is_drawn_once_and_a_cell_may_run_twice(shown):
    first, *drawn = shown(
        FITTED,
        "kmeans.plot()",
        "figure = kmeans.plot()",
        "figure",
        "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.close()",
        "kmeans.plot()",
        "choose_k(x[:300], [2, 3], n_seeds=2, verbose=0).plot()",
    )

    assert first == []
    assert drawn == [PICTURE, [], PICTURE, [], PICTURE, PICTURE]


def test_results_are_tables_and_a_cell_that_writes_runs_twice(shown):
    table = [("execute_result", {"text/plain", "text/html"})]
    writes = "kmeans.save('model'); path = kmeans.report(x[:2000], 'page.html', texts=texts[:2000], sample=0)"

    cells = shown(
        "from cosmeans import evaluate, exemplars, topics",
        FITTED,
        "kmeans.history_",
        "exemplars(kmeans, x)",
        "topics(kmeans, x, texts)",
        "evaluate(kmeans, x)",
        writes,
        writes,
    )

    assert cells == [[], [], table, table, table, table, [], []]
