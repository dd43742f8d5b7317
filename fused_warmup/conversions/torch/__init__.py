"""torch's schedulers, and those made from them, as schedules."""
