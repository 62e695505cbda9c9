"""JSON lines: one object a line, the vector a list of numbers in one of its fields."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from functools import cached_property
from itertools import islice
from typing import Any

from cosmeans.errors import FileError
from cosmeans.printable import writable
from cosmeans.reading import reading
from cosmeans.rows.place import Place
from cosmeans.rows.readers.lines import lines_of

_BATCH = 1024  # lines
_LOOKED_AT = 1000  # lines that say which fields there are
_CONVERT = "Convert a list of objects once: jq -c '.[]' FILE.json > FILE.jsonl"


class JsonLinesTable:
    """`rows.table.Table`. The first lines of the file say which fields there are."""

    counted = False

    def __init__(self, place: Place) -> None:
        import pyarrow

        self._place, self.name = place, place.name
        with closing(records(place)) as found:
            head = [record for _, record in islice(found, _LOOKED_AT)]
        fields = dict.fromkeys(name for record in head for name in record)
        self.schema = pyarrow.schema([(name, _type_of([record.get(name) for record in head])) for name in fields])
        lists = [field.name for field in self.schema if pyarrow.types.is_list(field.type)]
        self._widths = {name: next((len(record[name]) for record in head if record.get(name)), 0) for name in lists}

    @cached_property
    def groups(self) -> list[int]:
        return [sum(1 for line in lines_of(self._place) if line.strip())]

    def width(self, name: str) -> int | None:
        """Numbers in the first list of a column that has some; 0: the first lines have none."""
        return self._widths.get(name)

    def batches(self, group: int, names: list[str], text: bool = False) -> Iterator[Any]:
        import pyarrow

        types = [pyarrow.string() if text else self.schema.field(name).type for name in names]
        held: list[list[Any]] = [[] for _ in names]
        for count, (where, record) in enumerate(records(self._place), 1):
            for place, (name, kind) in enumerate(zip(names, types, strict=True)):
                held[place].append(_checked(record.get(name), kind, where, name))
            if count % _BATCH == 0:
                yield _batch(held, types, names)
                held = [[] for _ in names]
        if names and held[0]:
            yield _batch(held, types, names)


def records(place: Place) -> Generator[tuple[str, dict[str, Any]], None, None]:
    """Every line that is not empty, as (where it is, its object). Raises FileError for a line that is not an object."""
    with closing(lines_of(place)) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            where = f"{place}, line {number}"
            if number == 1 and place.suffix == ".json" and (line.startswith("[") or line.strip() == "{"):
                raise FileError(f"{place} is one JSON document; expected are JSON lines, one object a line. {_CONVERT}")
            with reading(where, says="is not JSON", advice="Each line must be a JSON object."):
                record = json.loads(line)
            if not isinstance(record, dict):
                raise FileError(f"{where} is not a JSON object. Each line must be one.")
            yield where, record


def _batch(columns: list[list[Any]], types: list[Any], names: list[str]) -> Any:
    import pyarrow

    arrays = [pyarrow.array(values, kind) for values, kind in zip(columns, types, strict=True)]
    return pyarrow.record_batch(arrays, names)


def _type_of(values: list[Any]) -> Any:
    """The type of Arrow for a field: lists of numbers, numbers, or text."""
    import pyarrow

    present = [value for value in values if value is not None]
    if present and all(isinstance(value, list) and all(_is_number(x) or x is None for x in value) for value in present):
        return pyarrow.list_(pyarrow.float64())
    if present and all(_is_number(value) for value in present):
        return pyarrow.float64()
    return pyarrow.string()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked(value: Any, kind: Any, where: str, name: str) -> Any:
    """A value as its field's type holds it. Raises FileError for what is not like those of the first lines."""
    import pyarrow

    if value is None:
        return None
    if pyarrow.types.is_string(kind):
        return writable(value if isinstance(value, str) else str(value))
    is_list = pyarrow.types.is_list(kind)
    numbers = value if is_list else [value]
    if not isinstance(numbers, list) or not all(_is_number(number) or number is None for number in numbers):
        wanted = "a list of numbers" if is_list else "a number"
        raise FileError(f"{where}: {name!r} must be {wanted}, as in the lines before. Correct or remove the line.")
    floats = [None if number is None else _float(number) for number in numbers]
    return floats if is_list else floats[0]


def _float(number: int | float) -> float:
    try:
        return float(number)
    except OverflowError:  # an integer of hundreds of digits
        return math.inf if number > 0 else -math.inf
