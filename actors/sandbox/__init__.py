"""Runs a program that nobody has read, so that it can neither see, change nor outlive anything.

The agent's side is `sandbox.py`. All else runs in a process of its own, with nothing but the
standard library: `launch.py` leaves the machine behind, `jail.py` builds the little that the
program sees, `warden.py` watches it, `system.py` and `seccomp.py` speak with the kernel.
"""
