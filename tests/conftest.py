"""Settings that hold for every test."""

from hypothesis import settings

# A property must not fail because the machine is busy.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
