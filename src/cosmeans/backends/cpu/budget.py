"""What may be kept of the rows from pass to pass, in bytes, and what to say where it does not fit."""

from __future__ import annotations

from dataclasses import dataclass

from cosmeans.backends.cpu.bounds import ROW_BYTES
from cosmeans.backends.cpu.host import Host
from cosmeans.backends.cpu.screens.pca import pca_bytes
from cosmeans.contracts import InspectedRows
from cosmeans.errors import DeviceMemoryError, OptionError

# kept of the rows by default: a quarter of their size less what a process needs anyway, or so much
_KEPT_SHARE, _NEEDED_ANYWAY, _KEPT_FREELY = 4, 600 << 20, 128 << 20


def needed_bytes(strategy: str, n_rows: int, n_features: int) -> int:
    """Bytes of what a fit by this strategy keeps of rows if it can: bounds, and coordinates where it asks for them."""
    each = (0 if strategy == "float32" else ROW_BYTES) + (pca_bytes(n_features) if strategy == "pca" else 0)
    return each * n_rows


@dataclass(frozen=True, slots=True)
class Budget:
    """For one fit. `allowed` bytes may be kept of its rows; strategies that were asked for keep all or are refused."""

    strategy: str
    n_rows: int
    n_features: int
    allowed: int

    @classmethod
    def of(cls, strategy: str, memory_limit: int | None, rows: InspectedRows, host: Host) -> Budget:
        """Raises OptionError where the strategy needs more than the limit allows."""
        allowed = memory_limit
        if allowed is None:
            freely = max(rows.n_bytes // _KEPT_SHARE - _NEEDED_ANYWAY, _KEPT_FREELY)
            allowed = min(freely, host.available() // 2)
        budget = cls(strategy, rows.n_rows, rows.n_features, allowed)
        if budget.needs_rows and budget._needed() > allowed:
            raise OptionError(
                f'{budget._told_need()}; memory_limit allows {allowed:,}. Raise it, or pass strategy="auto".'
            )
        return budget

    @property
    def bounded(self) -> bool:
        """Whether a bound of every row is kept."""
        return self.strategy != "float32" and self.allowed >= ROW_BYTES * self.n_rows

    @property
    def needs_rows(self) -> bool:
        """Whether the strategy that was asked for has to keep something of all rows."""
        return self.strategy in ("split", "pca")

    def left(self, bounded: bool) -> int:
        """Bytes that are left, with bounds kept or without."""
        return max(0, self.allowed - (ROW_BYTES * self.n_rows if bounded else 0))

    def refused(self) -> DeviceMemoryError:
        """What to raise where the system has not what a strategy that was asked for needs."""
        return DeviceMemoryError(
            f"{self._told_need()}; memory_limit allows that, but the system has no room for it. Free memory, "
            'or pass strategy="auto", which keeps what there is room for.'
        )

    def _needed(self) -> int:
        return needed_bytes(self.strategy, self.n_rows, self.n_features)

    def _told_need(self) -> str:
        needed = self._needed()
        return f'strategy="{self.strategy}" keeps {needed // self.n_rows} bytes a row, {needed:,} in all'
