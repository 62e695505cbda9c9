"""Everything that cosmeans raises or warns about on purpose.

    CosmeansError
    ├── OptionError(ValueError)            an option has a value it can't have
    ├── InputError(ValueError)             rows, weights or centroids can't be clustered as they are
    │   ├── TooFewRowsError
    │   └── FeatureNamesError              columns of other names than those of the fit
    ├── InputTypeError(TypeError)          data of a kind that has no cosine (booleans, text, dates)
    │   └── ComplexInputError              an InputError too: scikit-learn asks for a ValueError
    ├── NoFitError(NotFittedError)         a model has not been fitted, or has no such outcome of a fit
    ├── ReadOnlyError(AttributeError)      an outcome of a fit was to be set by hand
    ├── FileError(OSError)                 a file can't be read or written
    │   ├── ModelFormatError               a model folder is of a newer format, or damaged
    │   ├── OutputExistsError              nothing is overwritten unless told to
    │   └── WriteError                     the disk refused; what was there before is untouched
    ├── BackendUnavailableError(RuntimeError)
    ├── DeviceMemoryError(MemoryError)     rows, or what a fit needs besides them, don't fit on the device
    ├── EmptyClusterError(RuntimeError)    only with empty_clusters="error"
    ├── PrecisionError(RuntimeError)       float32 products on this machine are not float32 products
    └── InternalError(RuntimeError)        a result failed its own check: a fault of cosmeans or of the machine

    CosmeansWarning(UserWarning)
    ├── ZeroRowsWarning
    ├── SkippedRowsWarning
    ├── DistinctRowsWarning(ConvergenceWarning)  fewer distinct rows or centroids than n_clusters
    ├── WeightRangeWarning                 sample weights so far apart that light rows lose digits
    ├── IgnoredOptionWarning(RuntimeWarning)  an option that has no effect together with another
    ├── ArgumentOrderWarning
    ├── FileOrderWarning                   files are sorted by path, not by the numbers in their names
    ├── ColumnOrderWarning                 a large file stores its rows column by column
    ├── FeatureNamesWarning                names of features on one side only, of fit or of these rows
    └── ClusterSplitWarning                a cluster too large to compare its rows at once

Every message says what was given, what is needed, and what to do. It may name files, keys and columns, which others
chose: characters of theirs that would act on a terminal are shown as their escapes. URLs are shown without credentials.
"""

from typing import TYPE_CHECKING, Any

from cosmeans.printable import escaped, without_secrets

if TYPE_CHECKING:
    from cosmeans.errors.shared import DistinctRowsWarning as DistinctRowsWarning
    from cosmeans.errors.shared import NoFitError as NoFitError

_SHARED = ("DistinctRowsWarning", "NoFitError")  # scikit-learn's classes too, which takes a second to import


class CosmeansError(Exception):
    """Base of all errors raised on purpose. Its message is one printable line."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*_printable(arguments))


class OptionError(CosmeansError, ValueError):
    """An option has a value it can't have."""


class InputError(CosmeansError, ValueError):
    """Rows, weights or centroids that can't be clustered as they are."""


class TooFewRowsError(InputError):
    """Fewer rows than clusters."""


class FeatureNamesError(InputError):
    """Columns of other names than those of the fit. Its message has several lines, as that of scikit-learn has."""

    def __init__(self, *lines: Any) -> None:
        super().__init__()
        self.args = ("\n".join(escaped(part) for line in lines for part in str(line).split("\n")),)


class InputTypeError(CosmeansError, TypeError):
    """Data of a kind that has no cosine."""


class ComplexInputError(InputTypeError, InputError):
    """Complex numbers."""


class ReadOnlyError(CosmeansError, AttributeError):
    """An outcome of a fit that was to be set or deleted by hand."""


class FileError(CosmeansError, OSError):
    """A file that can't be read or written."""


class ModelFormatError(FileError):
    """A model folder that is damaged or of a newer format."""


class OutputExistsError(FileError):
    """An output that exists already; nothing was overwritten."""


class WriteError(FileError):
    """A file that can't be written: no space, no permission."""


class BackendUnavailableError(CosmeansError, RuntimeError):
    """The backend or device asked for can't run here."""


class DeviceMemoryError(CosmeansError, MemoryError):
    """The rows, or what a fit needs besides them, don't fit into the device's memory."""


class EmptyClusterError(CosmeansError, RuntimeError):
    """A cluster without direction under ``empty_clusters="error"``."""


class PrecisionError(CosmeansError, RuntimeError):
    """A float32 matrix product is computed in less than float32."""


class InternalError(CosmeansError, RuntimeError):
    """A result that failed its own check: a fault of cosmeans or of the machine, not of the input."""


class CosmeansWarning(UserWarning):
    """Base of all warnings. Its message is one printable line."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*_printable(arguments))


class ZeroRowsWarning(CosmeansWarning):
    """Rows without direction: they get label -1."""


class SkippedRowsWarning(CosmeansWarning):
    """Rows with NaN or infinity were skipped as asked: they get label -1."""


class WeightRangeWarning(CosmeansWarning):
    """Sample weights so far apart that exact sums keep few digits of the lightest rows."""


class IgnoredOptionWarning(CosmeansWarning, RuntimeWarning):
    """An option that has no effect together with another."""


class ArgumentOrderWarning(CosmeansWarning):
    """The arguments look as if they were meant in another order."""


class FileOrderWarning(CosmeansWarning):
    """The files of a pattern or a folder are in another order by their paths than by the numbers in their names."""


class ColumnOrderWarning(CosmeansWarning):
    """A file that is larger than the memory stores its rows column by column, so that single ones are slow to read."""


class FeatureNamesWarning(CosmeansWarning):
    """Rows have names of features and those of the fit had none, or the other way round."""


class ClusterSplitWarning(CosmeansWarning):
    """Clusters too large to compare all their rows at once are compared in parts."""


def _printable(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(escaped(without_secrets(value)) if isinstance(value, str) else value for value in arguments)


def __getattr__(name: str) -> Any:
    if name not in _SHARED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cosmeans.errors import shared

    return getattr(shared, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_SHARED})
