"""Settings that all tests share."""

from hypothesis import settings

# The machine may be busy with brokers and models: a slow example is not a wrong one. pytest's
# own timeout still ends what hangs. A failure prints what is needed to repeat it.
settings.register_profile("swarm", deadline=None, print_blob=True)
settings.load_profile("swarm")
