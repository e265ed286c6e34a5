"""How a replica is chosen for a request: what is decided of it beforehand. Pure."""

from typing import Final

from serve.profile import ModelProfile

ROUTER: Final = "serve.prefix_router.PrefixAwareRouter"
"""Not imported by whoever deploys it."""
UNEVEN: Final = 8
"""Requests that one replica may have more than another before its cache counts no longer:
an allowance for engines that take requests in batches, not a measurement."""


def router_config(profile: ModelProfile) -> dict[str, object] | None:
    """Ray Serve's `request_router_config` for a profile; None leaves the choice to Serve."""
    if not profile.prefix_aware:
        return None
    uneven = min(UNEVEN, profile.max_ongoing_requests - 1)
    return {
        "request_router_class": ROUTER,
        "request_router_kwargs": {"imbalanced_threshold": uneven, "do_eviction": True},
    }
