"""Imports Ray Serve, letting pass what it warns about in its own code.

A test module that imports something that imports ray.serve imports this first.
"""

import warnings

from pydantic.warnings import PydanticDeprecatedSince20

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore",
        message="Using extra keyword arguments on `Field` is deprecated",
        category=PydanticDeprecatedSince20,
    )
    from ray import serve
    from ray.exceptions import RayError
    from ray.serve.exceptions import RayServeException

__all__ = ["RayError", "RayServeException", "serve"]
