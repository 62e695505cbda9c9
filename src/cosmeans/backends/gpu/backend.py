"""The backend for one GPU. `session.py` is a fit; `kernels/` has one operation a file, as `backends/reference.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from cosmeans.backends.gpu import DeviceState, state_of
from cosmeans.backends.gpu.kernels import norms
from cosmeans.backends.gpu.kernels.assign import Screens
from cosmeans.backends.gpu.kernels.launch import current, keep_compiled_kernels
from cosmeans.backends.gpu.kernels.quantize import dense
from cosmeans.backends.gpu.session import GpuSession
from cosmeans.backends.gpu.tuning import Tuning
from cosmeans.contracts import Group, RowSource
from cosmeans.data import Task
from cosmeans.observer import Log, Observer


class GpuBackend:
    """Screens in float16 or in 8 bits first, proves most labels, refines the others exactly; sums in int64."""

    name = "gpu"
    state: DeviceState
    """What its sessions leave for the next ones."""

    def __init__(
        self,
        device: torch.device | str = "cuda",
        screen: str | Screens = "auto",
        integers: bool | None = None,
        tuning: Tuning | None = None,
        memory_limit: int | None = None,
        log: Log = lambda line: None,
    ) -> None:
        """Speed and memory depend on the arguments, no bit of an answer.

        screen    "portable", "hopper", or "auto": the fastest that runs here
        integers  whether passes begin in 8 bits; None: where earlier passes show that it pays
        tuning    other numbers than those of the table; sessions of this backend then share nothing with others
        memory_limit  bytes that a session may take of the device; None: as many as are free
        log       is told in one line where a slower screen runs than the chip could
        """
        keep_compiled_kernels()
        self.device = torch.device(device)
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.state = state_of(self.device) if tuning is None else DeviceState(self.device, tuning)
        self._integers, self._memory_limit = integers, memory_limit
        self._screens = Screens(self.device, screen, log) if isinstance(screen, str) else screen
        self._screens.programs = self.state.tuning.programs or self._screens.programs

    def session(self, source: RowSource, task: Task, group: Group, observer: Observer, log: Log) -> GpuSession:
        state = self.state.limited(self._memory_limit)
        return GpuSession(state, self._screens, self._integers, source, task, group, observer, log)

    def squared_norms(self, rows: Tensor) -> Tensor:
        with current(self.device):
            return norms.squared_norms(dense(rows))
