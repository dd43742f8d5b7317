"""Copies of schedulers that are run ahead without a trace in the training."""
