"""Limits as data, and what addresses count as."""

import pytest

from policies.rate_limits import ALL, LOGIN, REGISTRATION, counted_as


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_an_address_counts_as_what_one_subscriber_has(address: str, counted: str) -> None:
    assert counted_as(address) == counted


def test_what_costs_a_password_hash_is_closed_where_nobody_counts() -> None:
    assert not LOGIN.open_uncounted
    assert not REGISTRATION.open_uncounted


def test_waits_grow_and_names_differ() -> None:
    assert list(LOGIN.back_off_s) == sorted(set(LOGIN.back_off_s))
    assert len({limit.name for limit in ALL}) == len(ALL)
