"""Imports Ray Serve, letting pass what it warns about in its own code.

A test module that imports something that imports ray.serve imports this first.
"""

import secrets
import warnings

from pydantic.warnings import PydanticDeprecatedSince20

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore",
        message="Using extra keyword arguments on `Field` is deprecated",
        category=PydanticDeprecatedSince20,
    )
    from ray import serve
    from ray.exceptions import RayActorError, RayError
    from ray.serve.exceptions import RayServeException

TOKEN = secrets.token_hex(32)
"""For every Ray of this process: Ray reads its token once and keeps it."""

__all__ = ["TOKEN", "RayActorError", "RayError", "RayServeException", "serve"]
