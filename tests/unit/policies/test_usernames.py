"""Names that may be given to people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.errors import NameRejected
from policies.usernames import check_username


@pytest.mark.parametrize(
    ("name", "given_as"),
    [
        ("ada", "ada"),
        ("Ada_L.99", "Ada_L.99"),
        ("ada@example.org", "ada@example.org"),
        ("Zoë", "Zoë"),
        ("Zoe\u0308", "Zoë"),
        ("Олександр", "Олександр"),
        ("太郎", "太郎"),
        ("ﬁnn", "finn"),
        ("\uff11\uff12", "12"),
    ],
)
def test_names_of_people_are_accepted_in_their_normal_form(name: str, given_as: str) -> None:
    assert check_username(name) == given_as


@pytest.mark.parametrize(
    ("name", "wrong_with_it"),
    [
        ("", "empty"),
        ("a" * 65, "too long"),
        ("ada lovelace", "a space"),
        (" ada", "a space"),
        ("ada\n", "a line break"),
        ("ada\0", "NUL"),
        ("ada\u200b", "a zero-width space"),
        ("\u202eada", "text turned round"),
        ("ada\u00ad", "a soft hyphen"),
        ("a\u0430da", "a Cyrillic letter that looks Latin"),
        ("\u0391da", "a Greek letter that looks Latin"),
        ("ada\ud800", "half a surrogate pair"),
        ("ada\ue000", "a private character"),
        (".ada", "begins with a sign"),
        ("\u0301ada", "begins with a mark"),
        ("ada\r\nX-Admin: yes", "a header"),
        ("ada'; drop table users; --", "SQL"),
        ("../admin", "a path"),
        ("<b>ada</b>", "markup"),
        ("😀", "a picture"),
        ("\ufdfa", "one character that is eighteen"),
    ],
)
def test_what_might_pass_for_another_name_is_rejected(name: str, wrong_with_it: str) -> None:
    with pytest.raises(NameRejected):
        check_username(name)


@given(st.text(max_size=80))
def test_an_accepted_name_is_accepted_again_unchanged(name: str) -> None:
    try:
        accepted = check_username(name)
    except NameRejected:
        return
    assert check_username(accepted) == accepted
    assert accepted.isprintable()
    assert " " not in accepted
