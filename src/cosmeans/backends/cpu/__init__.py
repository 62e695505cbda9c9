"""The CPU backend: float32 screen, rigorous certificate, canonical settling, exact integer sums."""

from cosmeans.backends.cpu.backend import CpuBackend
from cosmeans.backends.cpu.budget import needed_bytes
from cosmeans.backends.cpu.kernels.compiling import DISABLED, hint

__all__ = ["DISABLED", "CpuBackend", "hint", "needed_bytes"]
