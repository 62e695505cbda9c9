"""Columns of Arrow: arrays, chunked arrays, and those in tables, batches and frames of pandas."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from cosmeans.containers.columns import check_lengths, missing
from cosmeans.containers.nouns import NUMBERS, VECTORS
from cosmeans.errors import InputTypeError

_NOUNS = {
    **dict.fromkeys(("is_date", "is_time", "is_timestamp"), "dates"),
    **dict.fromkeys(("is_string_view", "is_binary_view"), "text"),
    **dict.fromkeys(("is_string", "is_large_string", "is_binary", "is_large_binary", "is_fixed_size_binary"), "text"),
    **{"is_boolean": "booleans", "is_duration": "durations", "is_dictionary": "categories", "is_struct": "records"},
    **{"is_integer": NUMBERS, "is_floating": NUMBERS, "is_decimal": NUMBERS, "is_null": NUMBERS},
}


def _never(dtype: Any) -> bool:
    """For types that older versions of Arrow don't have."""
    return False


class ArrowColumn:
    """An Array or a ChunkedArray."""

    def __init__(self, name: Any, values: Any) -> None:
        self._arrow = sys.modules["pyarrow"]
        chunks = values.chunks if hasattr(values, "chunks") else [values]
        # extension types (a FixedShapeTensor, say) are what they store
        self._chunks = [self._as_list(chunk.storage if hasattr(chunk, "storage") else chunk) for chunk in chunks]
        self.name = name
        self.dtype = getattr(values.type, "storage_type", values.type)
        self._booleans = "bool8" in str(values.type)  # stored as bytes
        if self._chunks:
            self.dtype = self._chunks[0].type

    def noun(self) -> str:
        return "booleans" if self._booleans else self._noun(self.dtype)

    def _as_list(self, chunk: Any) -> Any:
        """Views of lists, whose rows may be stored in any order, as plain lists."""
        types = self._arrow.types
        if not any(getattr(types, test, _never)(chunk.type) for test in ("is_list_view", "is_large_list_view")):
            return chunk
        null = np.asarray(chunk.is_null().to_numpy(zero_copy_only=False))
        sizes = np.where(null, 0, np.asarray(chunk.sizes.to_numpy(zero_copy_only=False)))
        offsets = self._arrow.array(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)]))
        mask = self._arrow.array(null) if null.any() else None
        return self._arrow.LargeListArray.from_arrays(offsets, chunk.flatten(), mask=mask)

    def _noun(self, dtype: Any) -> str:
        types = self._arrow.types
        if self._is_list(dtype):
            inner = self._noun(dtype.value_type)
            return VECTORS if inner == NUMBERS else f"lists of {inner}"
        return next(
            (noun for test, noun in _NOUNS.items() if getattr(types, test, _never)(dtype)), f"values of type {dtype}"
        )

    def _is_list(self, dtype: Any) -> bool:
        types = self._arrow.types
        return bool(types.is_list(dtype) or types.is_large_list(dtype) or types.is_fixed_size_list(dtype))

    def native(self) -> np.dtype[Any] | None:
        return self._native(self.dtype) if sum(chunk.null_count for chunk in self._chunks) == 0 else None

    def _native(self, dtype: Any) -> np.dtype[Any] | None:
        types = self._arrow.types
        return np.dtype(dtype.to_pandas_dtype()) if types.is_integer(dtype) or types.is_floating(dtype) else None

    def numbers(self, dtype: Any) -> np.ndarray:
        parts = [self._flat(chunk, dtype) for chunk in self._chunks]
        return parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])

    def _flat(self, chunk: Any, dtype: Any) -> np.ndarray:
        """The numbers of one array: nulls as NaN, and integers with nulls not by way of float64."""
        types = self._arrow.types
        if self._native(chunk.type) is None:  # decimals, or nothing but nulls
            kind = self._arrow.float64()
            wide = chunk.cast(kind) if types.is_decimal(chunk.type) else self._arrow.nulls(len(chunk), kind)
            return np.asarray(wide.to_numpy(zero_copy_only=False), dtype)
        if chunk.null_count == 0:
            return np.asarray(chunk.to_numpy(zero_copy_only=False)).astype(dtype, copy=False)
        filled = np.asarray(chunk.fill_null(0).to_numpy(zero_copy_only=False)).astype(dtype)
        filled[np.asarray(chunk.is_null().to_numpy(zero_copy_only=False))] = np.nan
        return filled

    def vectors(self, name: str) -> np.ndarray:
        lengths, start = [], 0
        for chunk in self._chunks:
            if chunk.null_count:
                null = np.asarray(chunk.is_null().to_numpy(zero_copy_only=False))
                raise missing(name, self.name, start + int(null.argmax()))
            if self._arrow.types.is_fixed_size_list(chunk.type):
                lengths.append(np.full(len(chunk), chunk.type.list_size))
            else:
                offsets = np.asarray(chunk.offsets.to_numpy(zero_copy_only=False))
                lengths.append(np.diff(offsets))
            start += len(chunk)
        all_lengths = np.concatenate([np.empty(0, np.int64), *lengths])
        check_lengths(all_lengths, name, self.name)
        flat = [chunk.flatten() for chunk in self._chunks]
        native = self._native(self.dtype.value_type) if sum(part.null_count for part in flat) == 0 else None
        inner = ArrowColumn(self.name, self._arrow.chunked_array(flat, self.dtype.value_type))
        width = int(all_lengths[0]) if len(all_lengths) else 0
        return inner.numbers(np.float32 if native is None else native).reshape(len(all_lengths), width)

    def refusal(self, name: str) -> InputTypeError | None:
        """Unsigned 16 bits: some writers keep float16 in them, so that their values are not what they say."""
        inner = self.dtype.value_type if self._is_list(self.dtype) else self.dtype
        if not self._arrow.types.is_uint16(inner):
            return None
        return InputTypeError(
            f"{name}: column {self.name!r} is of type {self.dtype}, which some writers fill with the bits of float16. "
            "Make the type explicit: cast integers to int32, or pass x.to_numpy().view(np.float16) for bits of float16."
        )
