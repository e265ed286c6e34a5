"""How often a person, or an address, may try something. Data; storage/rate_limits.py counts."""

from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from typing import Final

MINUTE_S: Final = 60
IPV6_PREFIX_BITS: Final = 64
"""What one subscriber is given at least (RFC 6177): whoever has one address has all of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """So many in a window, for each of those that `per` names.

    Attributes:
        name: of what is limited; also what the record of refused attempts calls it.
        amount: how many in one window.
        window_s: its length in seconds.
        per: what is counted by: an address or a user.
        open_uncounted: whether it goes on where nothing can be counted, for what is harmless
            to do too often and bad to be kept from.
        back_off_s: waits for who goes over the limit again and again; the last one for ever.
    """

    name: str
    amount: int
    window_s: int = MINUTE_S
    per: str
    open_uncounted: bool
    back_off_s: tuple[int, ...] = ()


LOGIN: Final = RateLimit(
    name="login",
    amount=5,
    per="address",
    open_uncounted=False,
    back_off_s=tuple(MINUTE_S * minutes for minutes in (1, 2, 4, 8, 16, 32, 60)),
)
"""Failed attempts; one that succeeds is not counted, so that a command line may log in often."""
REGISTRATION: Final = RateLimit(name="registration", amount=5, per="address", open_uncounted=False)
REFRESH: Final = RateLimit(name="refresh", amount=60, per="address", open_uncounted=True)
"""Nobody guesses 256 bits: it keeps a broken client from wearing out the database."""
VALIDATION: Final = RateLimit(name="validation", amount=100, per="user", open_uncounted=True)
API_KEY_CREATION: Final = RateLimit(
    name="api_key_creation", amount=10, per="user", open_uncounted=False
)

ALL: Final = (LOGIN, REGISTRATION, REFRESH, VALIDATION, API_KEY_CREATION)


def counted_as(address: str) -> str:
    """What an address counts as: an IPv4 address itself, an IPv6 one its whole network.

    Text that is no address counts as itself.
    """
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    network = int(parsed) >> (128 - IPV6_PREFIX_BITS) << (128 - IPV6_PREFIX_BITS)
    return f"{IPv6Address(network)}/{IPV6_PREFIX_BITS}"
