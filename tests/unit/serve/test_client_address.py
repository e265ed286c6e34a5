"""Whose address counts."""

from ipaddress import ip_network

import pytest

from serve.client_address import UNKNOWN, client_address

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.9"], "192.0.2.1"),
        ("10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5", "198.51.100.9"], "198.51.100.9"),
        ("10.0.0.1", ["203.0.113.5, 198.51.100.9, 10.0.0.2"], "198.51.100.9"),
        ("10.0.0.1", ["nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.5, nonsense"], "10.0.0.1"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("::ffff:10.0.0.1", ["198.51.100.9"], "198.51.100.9"),
        ("fd00::1", ["2001:db8::1"], "2001:db8::1"),
        ("10.0.0.1", [", ".join(["10.0.0.2"] * 500)], "10.0.0.2"),
        (None, ["198.51.100.9"], UNKNOWN),
        ("", [], UNKNOWN),
    ],
)
def test_the_last_address_that_is_not_a_proxy_of_ours_counts(
    peer: str | None, forwarded: list[str], counted: str
) -> None:
    assert client_address(peer, forwarded, PROXIES) == counted


def test_without_proxies_of_ours_nobody_speaks_for_another() -> None:
    assert client_address("127.0.0.1", ["198.51.100.9"], ()) == "127.0.0.1"
