"""Measurements of fused_warmup beside its peers: ``python -m benchmarks`` and ``gpu.py``."""
