"""Working memory has names."""

from __future__ import annotations

import torch

from cosmeans.backends.gpu.rows.memory import Workspace

CPU = torch.device("cpu")


def test_memory_of_another_shape_takes_the_captured_epochs_with_it() -> None:
    workspace = Workspace(CPU)
    first = workspace.get("sums", (3,), lambda: [1])
    workspace.captured = "epochs"

    assert workspace.get("sums", (3,), lambda: [2]) is first
    assert workspace.get("labels", (5,), lambda: [3]) == [3]
    assert workspace.captured == "epochs"
    assert workspace.get("sums", (4,), lambda: [4]) == [4]
    assert workspace.captured is None


def test_memory_for_more_rows_serves_fewer() -> None:
    workspace = Workspace(CPU)
    first = workspace.at_least("list", 7, (3,), lambda: [7])
    workspace.captured = "epochs"

    assert workspace.at_least("list", 5, (3,), lambda: [5]) is first
    assert workspace.captured == "epochs"
    assert workspace.at_least("list", 8, (3,), lambda: [8]) == [8]
    assert workspace.at_least("list", 8, (4,), lambda: [9]) == [9]
    assert workspace.captured is None


def test_copies_are_at_one_place() -> None:
    workspace, x = Workspace(CPU), torch.eye(3)
    place = workspace.copy("rows", x)

    assert workspace.copy("norms", None) is None
    assert torch.equal(place, x)
    assert place.data_ptr() != x.data_ptr()
    assert workspace.copy("rows", 2 * x) is place
    assert torch.equal(place, 2 * x)
