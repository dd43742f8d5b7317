"""Settings that hold for every test."""

from hypothesis import HealthCheck, settings

# Nothing may fail because the machine is busy.
STEADY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# What must pass runs the same inputs every time. `make fuzz` looks for others; what it finds
# becomes an @example of the property.
settings.register_profile("gate", STEADY, derandomize=True)
settings.register_profile("fuzz", STEADY, max_examples=1000, print_blob=True)
settings.load_profile("gate")
