"""Where a request comes from: the peer, or whom a proxy that we trust speaks for. Pure."""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
UNKNOWN = "unknown"
"""What all count as together whose server does not say where they are."""
_MAX_HOPS = 16


def client_address(
    peer: str | None, forwarded_for: Sequence[str], trusted: Sequence[Network]
) -> str:
    """The address that a request is counted for.

    X-Forwarded-For is read from its end, where the last proxy wrote: the first address
    that is not one of our proxies is the client's. What stands before it anybody can write.

    Args:
        peer: who is connected to us, None if the server does not say.
        forwarded_for: every X-Forwarded-For header, in their order.
        trusted: the networks of our own proxies.
    """
    if not peer:
        return UNKNOWN
    address = peer
    hops = [hop.strip() for header in forwarded_for for hop in header.split(",")]
    for hop in reversed(hops[-_MAX_HOPS:]):
        if not _is_trusted(address, trusted):
            break
        if _parsed(hop) is None:
            break
        address = hop
    return address


def _is_trusted(address: str, trusted: Sequence[Network]) -> bool:
    parsed = _parsed(address)
    if parsed is None:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return any(parsed.version == network.version and parsed in network for network in trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
