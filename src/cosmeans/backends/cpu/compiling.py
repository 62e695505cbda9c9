"""How numba compiles the loops of this folder."""

from __future__ import annotations

from typing import Any

JIT: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True}
# called by other loops alone, never from Python: what would let it call them takes a good part of the compiling
# inline="always" beside it: what is called once is compiled once
INNER: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
}
# sums and largest values in any order, products added in one rounding; there are no NaNs
INNER_ORDERLESS: dict[str, Any] = INNER | {"fastmath": {"nnan", "nsz", "reassoc", "contract"}}
