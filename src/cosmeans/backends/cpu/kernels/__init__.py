"""Compiled loops of the CPU backend, one operation a file, and the products of libraries.

numba chooses instructions at run time, so one wheel fits AVX2, AVX-512 and NEON. A loop works on a range of rows,
releases the GIL and is called by `threads.spread`. Canonical arithmetic is compiled without fast-math (`sphere` is its
meaning); only sums whose bound holds for any order may be reordered.
"""
