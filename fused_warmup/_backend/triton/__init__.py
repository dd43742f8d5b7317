"""The Triton kernel and its plan; only `probe` can be imported where Triton is not installed."""
