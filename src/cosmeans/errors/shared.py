"""Errors and warnings that are scikit-learn's too. They are public as `cosmeans.errors.NAME`."""

from sklearn.exceptions import ConvergenceWarning, NotFittedError

from cosmeans.errors import CosmeansError, CosmeansWarning


class NoFitError(CosmeansError, NotFittedError):
    """A model that was not fitted yet, or that lacks an outcome of a fit; scikit-learn's NotFittedError, too."""


class DistinctRowsWarning(CosmeansWarning, ConvergenceWarning):
    """Fewer distinct rows than clusters. scikit-learn's warning of the same is a ConvergenceWarning, so this is too."""


for _public in (NoFitError, DistinctRowsWarning):
    _public.__module__ = "cosmeans.errors"  # where pickles and tracebacks find them
