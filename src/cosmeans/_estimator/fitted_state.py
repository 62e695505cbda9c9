"""What an estimator knows from a fit: one value, built first and set at once, so that nobody ever sees a half of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Never, Self, overload

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cosmeans import sphere
from cosmeans.containers.converted import on_host
from cosmeans.errors import InputError, NoFitError, ReadOnlyError
from cosmeans.result import EpochCost, History, Iteration, StopReason

if TYPE_CHECKING:
    from torch.utils.data import TensorDataset
    from typing_extensions import TypeVar

    Array = TypeVar("Array", bound=NDArray[Any] | Tensor, default=NDArray[Any])
else:  # defaults of type variables are for type checkers, and need Python 3.13 or another package
    from typing import TypeVar

    Array = TypeVar("Array")
Value = TypeVar("Value")

_ARRAYS = ("cluster_centers_", "labels_", "similarity_", "counts_")
_OF_ROWS = ("labels_", "similarity_")
_HELD = "_fit_state"  # the name of the state on an estimator
SAVED = "_saved"  # the folders that an estimator has saved itself to, with the checksums of their files
# what is known of one object and no other, and not part of pickles: `typing` notes the first for KMeans[Tensor]
_OF_THE_OBJECT = ("__orig_class__", SAVED)
_CPU = torch.device("cpu")
_ELSEWHERE = {
    "labels_": "Call predict with the rows: it gives the same labels.",
    "similarity_": "Call cosmeans.top with the rows and m=1: it gives the same cosines.",
    "inertia_": "Call score with the rows for their mean cosine, or fit.",
    "costs_": "Call fit.",
}
_INSTEAD = "Set it instead, which checks and scales: kmeans.centers = c."


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FitState:
    """What a fit, centers that were set, or a loaded model leave behind.

    Fields that end in "_" are the estimator's attributes of the same name; None: there is no such attribute.

    mean_similarity  mean cosine under these centroids; None: there was no fit yet
    started_from     what the fit started from; a second one continues only if that is equal
    mapped           whether labels_ and similarity_ are mapped from a file, which no pickle holds
    """

    cluster_centers_: Any
    n_features_in_: int
    random_state_: int
    history_: History = History()
    feature_names_in_: np.ndarray | None = None
    labels_: Any = None
    similarity_: Any = None
    counts_: Any = None
    n_distinct_: int | None = None
    inertia_: float | None = None
    n_iter_: int | None = None
    stop_reason_: StopReason | None = None
    costs_: tuple[EpochCost, ...] | None = None
    mean_similarity: float | None = None
    started_from: tuple[Any, ...] | None = None
    mapped: bool = False

    @property
    def given(self) -> bool:
        """Whether the centroids were set by hand and no fit followed: the next fit starts from them."""
        return self.stop_reason_ is None

    def centroids(
        self, device: torch.device = _CPU, squared_norms: Callable[[Tensor], Tensor] = sphere.squared_norms
    ) -> Tensor:
        """(K, D) float32 on the device, contiguous; squared_norms: the function of the backend there.

        Everybody can write into the array that `cluster_centers_` is, so it is checked whenever it is used.
        Raises InputError if a centroid no longer has unit length.
        """
        values = self.cluster_centers_
        tensor = values.detach() if isinstance(values, Tensor) else on_host(values)
        tensor = tensor.to(device, torch.float32).contiguous()
        if tensor.ndim != 2 or tensor.shape[1] != self.n_features_in_:
            raise InputError(f"cluster_centers_ was changed in place to shape {tuple(tensor.shape)}. {_INSTEAD}")
        squared = squared_norms(tensor)
        bad = sphere.first_not_unit(squared)
        if bad is not None:
            length = float(squared[bad]) ** 0.5
            raise InputError(
                f"cluster_centers_ was changed in place: centroid {bad} has length {length:.7g}, not 1. {_INSTEAD}"
            )
        return tensor

    def shown(self) -> dict[str, Any]:
        """The estimator's attributes that there are."""
        values = {name: getattr(self, name) for name in _SHOWN}
        return {name: value for name, value in values.items() if value is not None}

    def pack(self) -> dict[str, Any]:
        """Plain values and NumPy arrays, which every kind of pickle can hold; without costs, which differ by run."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        if values["mapped"]:
            values |= dict.fromkeys(_OF_ROWS)
        else:
            del values["mapped"]  # as it was before there was such a thing
        devices = {name: str(values[name].device) for name in _ARRAYS if isinstance(values[name], Tensor)}
        for name in devices:
            values[name] = values[name].detach().cpu().numpy()
        names = self.feature_names_in_
        return values | {
            "history_": self.history_.to_json(),
            "feature_names_in_": None if names is None else list(names),
            "stop_reason_": None if self.stop_reason_ is None else self.stop_reason_.value,
            "costs_": None,
            "devices": devices,
        }

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> FitState:
        """The state that was packed. Tensors return to their devices, or to the CPU where there is no such device."""
        values = {field.name: packed[field.name] for field in fields(cls) if field.name in packed}
        for name, device in packed["devices"].items():
            # a copy: what was unpickled may be mapped from a file, which no tensor may write to
            values[name] = torch.from_numpy(np.array(values[name])).to(_present(device))
        names, stop = values["feature_names_in_"], values["stop_reason_"]
        values["feature_names_in_"] = None if names is None else np.array(names, dtype=object)
        values["stop_reason_"] = None if stop is None else StopReason(stop)
        values["history_"] = History([Iteration(**record) for record in values["history_"]])
        return cls(**values)


_SHOWN = {field.name for field in fields(FitState) if field.name.endswith("_")}


class FromFit(Generic[Value]):
    """An attribute that is read from an estimator's fit state and set by a fit only."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, estimator: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, estimator: Any, owner: type | None = None) -> Value: ...
    def __get__(self, estimator: Any, owner: type | None = None) -> Any:
        if estimator is None:
            return self
        state: FitState | None = estimator._state
        if state is None:
            raise NoFitError(
                f"This {type(estimator).__name__} is not fitted yet: it has no {self._name}. Call fit first."
            )
        value = getattr(state, self._name)
        if value is None:
            raise NoFitError(f"This {type(estimator).__name__} has no {self._name}: {_why_not(state, self._name)}")
        return value

    def __set__(self, estimator: Any, value: Never) -> None:
        raise ReadOnlyError(
            f"{self._name} is an outcome of fit and can't be set. Set centers to use other centroids, or call fit."
        )

    def __delete__(self, estimator: Any) -> None:
        raise ReadOnlyError(f"{self._name} is an outcome of fit and can't be deleted alone. reset() forgets the fit.")


def _why_not(state: FitState, name: str) -> str:
    """Why a state has no such attribute, and where else to find it."""
    if state.given:
        return "centers were set, and no fit followed. Call fit; predict and score work without it."
    if name == "feature_names_in_":
        return "the columns of the rows that it was fitted to had no names."
    if state.mapped and name in _OF_ROWS:
        return (
            "labels and similarity of so many rows of files are mapped from a file, and the pickle that this model "
            f"came from does not hold them. {_ELSEWHERE[name]}"
        )
    return f"it is not saved with a model, and not kept where clusters are reordered without rows. {_ELSEWHERE[name]}"


class CentersFromFit(FromFit[Value]):
    """The centroids, which can be set, too: through the checks of `centers`."""

    def __set__(self, estimator: Any, value: Any) -> None:
        estimator._set_centers(value, self._name)


class HoldsFit(Generic[Array]):
    """An estimator's side of its fit state: the attributes, copies and pickles. Array: the kind of its results."""

    cluster_centers_: CentersFromFit[Array] = CentersFromFit()
    labels_: FromFit[Array] = FromFit()
    similarity_: FromFit[Array] = FromFit()
    counts_: FromFit[Array] = FromFit()
    inertia_: FromFit[float] = FromFit()
    n_distinct_: FromFit[int] = FromFit()
    n_iter_: FromFit[int] = FromFit()
    history_: FromFit[History] = FromFit()
    stop_reason_: FromFit[StopReason] = FromFit()
    random_state_: FromFit[int] = FromFit()
    costs_: FromFit[tuple[EpochCost, ...]] = FromFit()
    n_features_in_: FromFit[int] = FromFit()
    feature_names_in_: FromFit[NDArray[Any]] = FromFit()

    if TYPE_CHECKING:  # scikit-learn's own, which have no types

        @overload
        def fit_transform(
            self, X: Tensor | Sequence[Tensor] | TensorDataset, y: Any = None, **fit_params: Any
        ) -> Tensor: ...
        @overload
        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> NDArray[Any]: ...
        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any: ...
        def get_params(self, deep: bool = True) -> dict[str, Any]: ...
        def set_params(self, **params: Any) -> Self: ...
        def set_output(self, *, transform: Literal["default", "pandas", "polars"] | None = None) -> Self: ...

    @property
    def _state(self) -> FitState | None:
        """What every attribute is read from."""
        return vars(self).get(_HELD)

    @_state.setter
    def _state(self, state: FitState | None) -> None:
        """Replace it, and what `vars` shows of it, in one step: interrupts and threads see one fit or the other."""
        shown = {} if state is None else state.shown()
        vars(self).update({_HELD: state} | shown)
        for name in _SHOWN - shown.keys():
            vars(self).pop(name, None)

    @property
    def _n_features_out(self) -> int:
        """What scikit-learn names the columns of `transform` by."""
        return len(state_of(self).cluster_centers_)

    def __sklearn_is_fitted__(self) -> bool:
        return self._state is not None

    def __getstate__(self) -> dict[str, Any]:
        """What every kind of pickle can hold: options, and the state as plain values and NumPy arrays."""
        state: dict[str, Any] = dict(super().__getstate__())  # type: ignore[call-overload]
        fit: FitState | None = state.pop(_HELD, None)
        state = {name: value for name, value in state.items() if name not in _SHOWN and name not in _OF_THE_OBJECT}
        return state if fit is None else state | {_HELD: fit.pack()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        packed = state.get(_HELD)
        vars(self).update({name: value for name, value in state.items() if name != _HELD})
        self._state = None if packed is None else FitState.unpack(packed)

    def __copy__(self) -> Self:
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        return twin

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        twin = memo[id(self)] = type(self).__new__(type(self))
        if self._state is not None and self._state.mapped:  # nobody writes to these, and they may exceed the memory
            memo |= {id(values): values for values in (self._state.labels_, self._state.similarity_)}
        vars(twin).update(copy.deepcopy(vars(self._without_graph()), memo))
        return twin

    def __sklearn_clone__(self) -> Any:
        return super(HoldsFit, self._without_graph()).__sklearn_clone__()  # type: ignore[misc]

    def _without_graph(self) -> Self:
        """A copy whose first centroids, if they are a tensor, can be copied: torch copies none with a graph."""
        twin = copy.copy(self)
        init = vars(twin).get("init")
        if isinstance(init, Tensor) and init.requires_grad:
            vars(twin)["init"] = init.detach()
        return twin


def state_of(estimator: HoldsFit[Any]) -> FitState:
    """What an estimator knows from its fit. Raises NoFitError if it has neither a fit nor centers."""
    state = estimator._state
    if state is None:
        raise NoFitError(f"This {type(estimator).__name__} is not fitted yet. Call fit first, or set centers.")
    return state


def change_state(estimator: HoldsFit[Any], **changes: Any) -> None:
    """Replace fields of what an estimator knows, all at once."""
    estimator._state = replace(state_of(estimator), **changes)


def _present(device: str) -> torch.device:
    """The device of this name, or the CPU if this machine has none."""
    wanted = torch.device(device)
    found = wanted.type == "cpu" or (wanted.type == "cuda" and (wanted.index or 0) < torch.cuda.device_count())
    return wanted if found else _CPU
