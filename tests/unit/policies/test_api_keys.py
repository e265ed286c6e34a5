"""API keys and refresh tokens as text."""

import pytest

from policies.api_keys import key_digest, make_key, prefix_of
from policies.refresh_tokens import make_refresh_token, refresh_digest


def test_a_key_is_found_by_its_prefix_and_known_by_its_digest() -> None:
    key = make_key()
    assert key.text.startswith("swk_")
    assert prefix_of(key.text) == key.prefix
    assert key_digest(key.text) == key.digest
    assert len(key.digest) == 32


def test_keys_and_tokens_are_never_the_same() -> None:
    assert len({make_key().text for _ in range(100)}) == 100
    assert len({make_refresh_token() for _ in range(100)}) == 100


def test_a_key_is_not_shown() -> None:
    key = make_key()
    assert key.text not in repr(key)
    secret = key.text.removeprefix(f"swk_{key.prefix}_")  # which may have an underscore in it
    assert len(secret) == 43
    assert secret not in repr(key)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text.upper(),
        lambda text: text.replace("swk_", "swr_"),
        lambda text: text + "\n",
        lambda text: text[:0],
        lambda text: text.replace("_", "-"),
    ],
)
def test_what_has_not_the_form_of_a_key_is_none(change: object) -> None:
    assert callable(change)
    assert prefix_of(change(make_key().text)) is None


@pytest.mark.parametrize("text", ["", "swr_", "swr_" + "a" * 42, "swk_" + "a" * 43, "ä" * 47])
def test_what_has_not_the_form_of_a_refresh_token_has_no_digest(text: str) -> None:
    assert refresh_digest(text) is None


def test_a_refresh_token_has_a_digest() -> None:
    token = make_refresh_token()
    assert refresh_digest(token) == refresh_digest(token)
    assert refresh_digest(token) != refresh_digest(make_refresh_token())
