"""Columns of vectors in tables of Arrow: which column it is, and its rows as one array."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cosmeans.containers.arrow import ArrowColumn
from cosmeans.containers.nouns import NUMBERS, VECTORS
from cosmeans.errors import InputError, InputTypeError, OptionError

_SHOWN = 20  # names that a message lists


class VectorColumn:
    """The column of a table that holds the vectors, or all columns of a table that has nothing but numbers.

    names  the columns; one, unless the numbers of a row are in columns of their own
    dtype  of the array that `rows` makes: floating, so that a null can be NaN. Integers of 8 bits become float16, which
           holds them; all others float32
    width  D, where the type says it
    lists  whether it is one column of lists
    stored  the type of the numbers in the file, for people
    """

    def __init__(self, path: str, schema: Any, embedding: str | None, dtype: str | None) -> None:
        import pyarrow

        self._arrow, self._path = pyarrow, path
        self._bits = dtype is not None
        if dtype not in (None, "float16"):
            raise OptionError(
                f"dtype={dtype!r}: a table says what its numbers are. Only float16 can be named, for its bits in "
                "a column of uint16."
            )
        nouns = {field.name: self._column(field).noun() for field in schema}
        self.names = self._chosen(schema, nouns, embedding)
        field = schema.field(self.names[0])
        self._wide = nouns[self.names[0]] != VECTORS
        for name in self.names:
            self._check(schema.field(name))
        kind = getattr(field.type, "storage_type", field.type)
        value = kind if self._wide else kind.value_type
        self.dtype = self._float_of(value)
        if self._wide:
            doubles = any(self._float_of(field.type) == torch.float64 for field in schema)
            self.dtype = torch.float64 if doubles else torch.float32
        self.lists = not self._wide
        inner = {field.type for field in schema if field.name in self.names} if self._wide else {value}
        self.stored = "float16, as uint16" if self._bits else ", ".join(sorted(map(_type_name, inner)))
        self.width: int | None = len(self.names) if self._wide else None
        if pyarrow.types.is_fixed_size_list(kind):
            self.width = kind.list_size

    def rows(self, batch: Any, first_row: int) -> np.ndarray:
        """The vectors of a record batch that has these columns, (n, D). Rows that are null, and null numbers, are NaN.

        first_row  the index of its first row in the file, for messages
        """
        if self._wide:
            # integers are rounded once, to what rows are computed in, as in a frame
            integers = [self._arrow.types.is_integer(batch.schema.field(name).type) for name in self.names]
            parts = zip(self.names, integers, strict=True)
            columns = [self._numbers(batch.column(name), np.float32 if whole else None) for name, whole in parts]
            return np.stack(columns, axis=1).astype(self.array_dtype, copy=False)
        column = batch.column(self.names[0])
        lists = getattr(column, "storage", column)
        present = None
        if lists.null_count:
            present = np.asarray(lists.is_valid().to_numpy(zero_copy_only=False))
            lists = lists.drop_null()
        lengths = self._lengths(lists)
        if self.width is None and len(lengths):
            self.width = int(lengths[0])
        odd = lengths != self.width
        if odd.any():
            at = int(odd.argmax())
            row = first_row + (at if present is None else int(np.flatnonzero(present)[at]))
            raise InputError(
                f"{self._path}, row {row:,}: a list of {lengths[at]} numbers, others have {self.width}. "
                "Remove the row, or give it as many numbers."
            )
        found = self._numbers(lists.flatten()).reshape(len(lists), self.width or 0)
        if present is None:
            return found
        whole = np.full((len(present), self.width or 0), np.nan, found.dtype)
        whole[present] = found
        return whole

    def _lengths(self, lists: Any) -> np.ndarray:
        types = self._arrow.types
        if types.is_fixed_size_list(lists.type):
            return np.full(len(lists), lists.type.list_size)
        if hasattr(lists, "sizes"):  # views of lists
            return np.asarray(lists.sizes.to_numpy(zero_copy_only=False))
        return np.diff(np.asarray(lists.offsets.to_numpy(zero_copy_only=False)))

    @property
    def array_dtype(self) -> np.dtype[Any]:
        """`dtype`, as NumPy has it."""
        return np.dtype(str(self.dtype).removeprefix("torch."))

    def _numbers(self, values: Any, dtype: Any = None) -> np.ndarray:
        if self._bits and values.null_count == 0:
            return np.asarray(values.to_numpy(zero_copy_only=False)).view(np.float16)
        if self._bits:
            found = np.asarray(values.fill_null(0).to_numpy(zero_copy_only=False)).astype(np.uint16).view(np.float16)
            found[np.asarray(values.is_null().to_numpy(zero_copy_only=False))] = np.nan
            return found
        return ArrowColumn(self.names[0], values).numbers(self.array_dtype if dtype is None else dtype)

    def _column(self, field: Any) -> ArrowColumn:
        kind = getattr(field.type, "storage_type", field.type)
        return ArrowColumn(field.name, self._arrow.array([], kind))

    def _check(self, field: Any) -> None:
        """Raise InputTypeError for what is not numbers, and for unsigned 16 bits that nobody explained."""
        kind = getattr(field.type, "storage_type", field.type)
        inner = kind if self._wide else kind.value_type
        bits = self._arrow.types.is_uint16(inner)
        if bits and not self._bits:
            raise InputTypeError(
                f"{self._path}: column {field.name!r} holds uint16. If these are the bits of float16 numbers (some "
                'writers store them so), pass dtype="float16" (--dtype float16).'
            )
        if self._bits and not bits:
            raise OptionError(
                f'dtype="float16" (--dtype) is for bits of float16 in a column of uint16; column {field.name!r} of '
                f"{self._path} holds {inner}. Remove the dtype."
            )

    def _float_of(self, value: Any) -> torch.dtype:
        types = self._arrow.types
        if self._bits or types.is_float16(value) or types.is_int8(value) or types.is_uint8(value):
            return torch.float16
        return torch.float64 if types.is_float64(value) or types.is_decimal(value) else torch.float32

    def _chosen(self, schema: Any, nouns: dict[str, str], embedding: str | None) -> list[str]:
        """The names of the columns with the vectors. Raises OptionError unless that is clear."""
        path, vectors = self._path, [name for name, noun in nouns.items() if noun == VECTORS]
        if embedding is not None:
            if embedding not in nouns:
                raise OptionError(
                    f"embedding={embedding!r} (--embedding): {path} has no such column. It has: {_listed(list(nouns))}."
                )
            if schema.names.count(embedding) > 1:
                raise InputError(f"{path} has {schema.names.count(embedding)} columns called {embedding!r}. Rename all "
                                 "but one.")  # fmt: skip
            if nouns[embedding] != VECTORS:
                raise InputTypeError(
                    f"{path}: column {embedding!r} holds {nouns[embedding]}; expected lists of numbers. Lists of "
                    f"numbers are in: {_listed(vectors)}."
                )
            return [embedding]
        if len(vectors) == 1:
            return vectors
        if vectors:
            widths = [f'"{name}"{self._told_width(schema.field(name))}' for name in vectors[:_SHOWN]]
            raise OptionError(
                f"{path} has {len(vectors)} columns of lists of numbers: {', '.join(widths)}. Name one with embedding "
                "(--embedding)."
            )
        if nouns and set(nouns.values()) == {NUMBERS} and len(set(schema.names)) == len(schema.names):
            return list(schema.names)
        told = ", ".join(f"{name!r} ({noun})" for name, noun in list(nouns.items())[:_SHOWN])
        raise InputTypeError(
            f"{path} has no column of lists of numbers; its columns: {told or 'none'}. Store each embedding as a list "
            "of numbers in one column, or keep nothing but columns of numbers."
        )

    def _told_width(self, field: Any) -> str:
        kind = getattr(field.type, "storage_type", field.type)
        return f" ({kind.list_size})" if self._arrow.types.is_fixed_size_list(kind) else ""


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return (shown + ", ..." if len(names) > _SHOWN else shown) or "none"


def _type_name(kind: Any) -> str:
    """A type of Arrow by its name in NumPy, which is what most know."""
    return {"halffloat": "float16", "float": "float32", "double": "float64"}.get(str(kind), str(kind))
