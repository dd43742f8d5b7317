"""What users hold: the optimizer, its checkpoints, and what trainers and loggers see of it."""
