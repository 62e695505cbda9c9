"""The CPU backend: float32 screen, rigorous certificate, canonical settling, exact integer sums."""

from cosmeans.backends.cpu.backend import CpuBackend

__all__ = ["CpuBackend"]
