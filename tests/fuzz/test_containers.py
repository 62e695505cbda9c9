"""Random tables in random containers: what comes out is the exact value of each entry, or an error that names it."""

from __future__ import annotations

import importlib.util
from datetime import date, timedelta
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cosmeans._estimator.inputs import read_rows
from cosmeans.errors import InputError, InputTypeError
from cosmeans.memory_rows import whole

INTEGERS = {"int8": 7, "int16": 15, "int32": 31, "int64": 63, "uint8": 8, "uint16": 16, "uint32": 32, "uint64": 64}
FLOATS = ("float16", "float32", "float64")
BAD = (True, "7", b"7", date(2020, 1, 1), timedelta(1), 1j, {"a": 1}, np.True_, np.datetime64("2020"))


def nearest(value: Fraction) -> float:
    """The float32 nearest to an exact value, ties to even, by search over neighbours in exact arithmetic."""
    if value == 0:
        return 0.0
    guess = np.float32(float(value))
    around = [np.nextafter(guess, np.float32(-np.inf)), guess, np.nextafter(guess, np.float32(np.inf))]
    return float(min(around, key=lambda x: (abs(Fraction(float(x)) - value), int(x.view(np.int32)) & 1)))


@st.composite
def columns(draw: st.DrawFn, n: int) -> tuple[str, list[int | float | None], bool]:
    """(dtype, entries, whether some may be null): whole numbers over the range of the type, or floats that it holds."""
    dtype = draw(st.sampled_from([*INTEGERS, *FLOATS]))
    if dtype in INTEGERS:
        bits = INTEGERS[dtype]
        low = 0 if dtype[0] == "u" else -(2**bits)
        entry: st.SearchStrategy[int | float] = st.integers(low, 2**bits - 1)
    else:
        entry = st.floats(-60000, 60000, width=int(dtype[5:]), allow_subnormal=False)
    nulls = draw(st.booleans())
    values = draw(st.lists(st.one_of(st.none(), entry) if nulls else entry, min_size=n, max_size=n))
    return dtype, values, nulls


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[tuple[str, list[int | float | None], bool]], int]:
    n, d = draw(st.integers(1, 6)), draw(st.integers(1, 5))
    same = draw(st.booleans())
    made = [draw(columns(n)) for _ in range(d)]
    if same:
        made = [(made[0][0], draw(st.permutations(made[0][1])), made[0][2]) for _ in range(d)]
    return made, n


def oracle(table: list[tuple[str, list[int | float | None], bool]]) -> np.ndarray:
    """(n, d) float32 from exact values."""
    return np.array(
        [[np.nan if v is None else nearest(Fraction(v)) for v in values] for _, values, _ in table], np.float32
    ).T


def pandas(table):
    return pd.DataFrame({f"c{i}": series(*column) for i, column in enumerate(table)})


def series(dtype, values, nulls):
    if not nulls:
        return pd.Series(values, dtype=dtype)
    if dtype in FLOATS:
        return pd.Series(np.array([np.nan if v is None else v for v in values], dtype))
    name = dtype.replace("uint", "UInt").replace("int", "Int") if dtype[0] == "u" else dtype.capitalize()
    return pd.Series(pd.array(values, dtype=name))


def arrow(table):
    import pyarrow as pa

    return pa.table({f"c{i}": pa.array(*_arrow(dtype, values)) for i, (dtype, values, _) in enumerate(table)})


def _arrow(dtype, values):
    import pyarrow as pa

    if dtype == "uint16":  # refused by design: it may hold the bits of float16
        dtype = "uint32"
    kind = pa.type_for_alias(dtype)
    return (values if dtype != "float16" else [None if v is None else np.float16(v) for v in values]), kind


def polars(table):
    import polars as pl

    def of(dtype):
        return getattr(
            pl,
            (dtype if dtype != "float16" else "float32").replace("uint", "UInt").replace("int", "Int", 1)
            if dtype[0] == "u"
            else (dtype if dtype != "float16" else "float32").capitalize(),
        )

    return pl.DataFrame({f"c{i}": pl.Series(values, dtype=of(dtype)) for i, (dtype, values, _) in enumerate(table)})


def records_of_python(table):
    return [list(row) for row in zip(*(values for _, values, _ in table), strict=True)]


def objects(table):
    return np.array(records_of_python(table), dtype=object)


CONTAINERS = {"pandas": pandas, "objects": objects, "object frame": lambda t: pd.DataFrame(objects(t))}
CONTAINERS |= {"arrow": arrow} if importlib.util.find_spec("pyarrow") else {}
CONTAINERS |= {"polars": polars} if importlib.util.find_spec("polars") else {}
HOLD_ALL = ("pandas", "arrow", "polars")


def read(rows: object) -> np.ndarray:
    return np.asarray(whole(read_rows(rows)[0]).to(torch.float32))


def check_values(table, container: str) -> None:
    got, wanted = read(CONTAINERS[container](table)), oracle(table)
    if container not in HOLD_ALL:  # Python's numbers go by way of float64
        wanted = np.array([[np.nan if v is None else float(v) for v in c[1]] for c in table]).T.astype(np.float32)
    assert np.array_equal(got, wanted, equal_nan=True)


def check_one_type(table, dtype: str) -> None:
    """Arrays and tensors of one type, in every layout."""
    exact = [[0 if v is None else v for v in values] for _, values, _ in table]
    array = np.array(exact, dtype=table[0][0]).T
    wanted = np.array([[nearest(Fraction(v)) for v in values] for values in array.T.tolist()], np.float32).T
    layouts = [array, np.asfortranarray(array), array[::-1][::-1], array.astype(array.dtype.newbyteorder(">"))]
    for rows in [*layouts, torch.from_numpy(array.copy()), list(array)]:
        assert np.array_equal(read(rows), wanted)


def check_bad_entry(table, place: tuple[int, int], bad: object) -> None:
    """One entry that is not a number is refused, wherever it is, with its column or its row."""
    rows = records_of_python(table)
    row, column = place[0] % len(rows), place[1] % len(rows[0])
    rows[row][column] = bad
    with pytest.raises(InputTypeError, match=rf" in row {row}\b"):
        read_rows(rows)
    frame = pd.DataFrame({f"c{i}": pd.Series([r[i] for r in rows], dtype=object) for i in range(len(rows[0]))})
    with pytest.raises(InputTypeError, match=rf"'c{column}'"):
        read_rows(frame)


def check_vectors(table, place: int, missing: bool) -> None:
    """Vectors in a column; one that is missing or longer is refused with its row."""
    rows = records_of_python([(dtype, [0 if v is None else v for v in values], False) for dtype, values, _ in table])
    wanted = np.asarray(rows, dtype=np.float64).astype(np.float32)
    if all(isinstance(v, float) for row in rows for v in row):
        assert np.array_equal(read(pd.DataFrame({"t": "x", "e": pd.Series(rows)})), wanted)
    bad = 1 + place % len(rows)
    rows = [rows[0], *rows]
    rows[bad] = None if missing else [*rows[bad], 1.0]
    with pytest.raises(InputError, match=rf"row {bad} "):
        read_rows(pd.Series(rows))
    with pytest.raises(InputError, match=rf"row {bad} "):
        read_rows(rows)


def check(table, container, place, bad, missing) -> None:
    check_values(table, container)
    check_one_type(table[:1], table[0][0])
    check_bad_entry(table, place, bad)
    check_vectors(table, place[0], missing)


EVERYTHING = given(
    tables(),
    st.sampled_from(sorted(CONTAINERS)),
    st.tuples(st.integers(0, 99), st.integers(0, 99)),
    st.sampled_from(range(len(BAD))),
    st.booleans(),
)
QUIET = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}


@settings(max_examples=60, derandomize=True, **QUIET)
@EVERYTHING
def test_containers(table, container, place, bad, missing):
    check(table[0], container, place, BAD[bad], missing)


@pytest.mark.soak
@settings(max_examples=5000, **QUIET)
@EVERYTHING
def test_containers_for_long(table, container, place, bad, missing):
    check(table[0], container, place, BAD[bad], missing)
