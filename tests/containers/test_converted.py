"""Rows that are put together are those that came, whatever their type and how they are stored."""

import pytest
import torch

from cosmeans.containers.converted import copy_rows, joined_rows

TYPES = ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int64"]


def rows(n, dtype, strided=False):
    made = (100 * torch.rand((n, 14), generator=torch.Generator().manual_seed(n))).to(getattr(torch, dtype))
    return made[:, ::2] if strided else made[:, :7].contiguous()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("sizes", [[5], [0], [3, 0, 4], [1, 1], [2000, 3000]])
@pytest.mark.parametrize("strided", [False, True])
def test_parts_follow_one_another(dtype, sizes, strided):
    parts = [rows(n, dtype, strided) for n in sizes]
    found = joined_rows(parts)
    assert found.dtype == parts[0].dtype
    assert torch.equal(found, torch.cat(parts))


@pytest.mark.parametrize("dtype", TYPES)
def test_rows_are_copied_to_where_others_were(dtype):
    whole = torch.zeros((9, 7), dtype=getattr(torch, dtype))
    copy_rows(rows(4, dtype), whole[3:7])
    assert torch.equal(whole[3:7], rows(4, dtype))
    assert not whole[:3].any()
    assert not whole[7:].any()
