"""The same work on other systems, run by a Python of their own: `python -m benchmarks.peers`."""
