"""The GPU backend: an fp16 screen, a rigorous certificate, canonical settling, exact integer sums.

Importing `backend` needs Triton; nothing outside this folder does.
"""
