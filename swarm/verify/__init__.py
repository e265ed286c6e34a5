"""The independent verifier of evidence bundles: `swarm verify`.

Shares no code with the rest of the project on purpose: it is the second implementation, and all
it needs is the standard library and PyNaCl. Its folder runs alone as well:

    python swarm/verify BUNDLE --root-key O...
"""

from swarm.verify.check import Proven, verify
from swarm.verify.text import NotProven

__all__ = ["NotProven", "Proven", "verify"]
