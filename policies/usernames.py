"""Names that people may give themselves: what one reads is what it is.

A name that looks like another's is how one person passes for another. So a new name is in
its normal form, of letters, digits and a few signs, its letters of one script.
Source: the restrictions of Unicode Technical Standard 39, section 5.2, in their simplest form.
"""

import unicodedata
from typing import Final

from policies.errors import NameRejected

MAX_CHARS: Final = 64
_SIGNS: Final = frozenset("._-@+")
_LOOK_ALIKE: Final = frozenset({"LATIN", "CYRILLIC", "GREEK", "ARMENIAN", "CHEROKEE", "COPTIC"})
"""Scripts with letters that are drawn the same."""


def check_username(name: str) -> str:
    """The name, in its normal form (NFKC), if it may be given to somebody.

    Raises:
        NameRejected: saying what is wrong with it.
    """
    if any(unicodedata.category(char) == "Cs" for char in name):
        raise NameRejected("A user name is valid Unicode.")
    normal = unicodedata.normalize("NFKC", name)
    if not 1 <= len(normal) <= MAX_CHARS:
        raise NameRejected(f"A user name has 1 to {MAX_CHARS} characters.")
    if not (_is_letter(normal[0]) or _is_digit(normal[0])):
        raise NameRejected("A user name begins with a letter or a digit.")
    if not all(_is_letter(c) or _is_digit(c) or _is_mark(c) or c in _SIGNS for c in normal):
        raise NameRejected("A user name has letters, digits and the signs . _ - @ + only.")
    scripts = {unicodedata.name(c, "").split(" ")[0] for c in normal if _is_letter(c)}
    if len(scripts & _LOOK_ALIKE) > 1:
        raise NameRejected("The letters of a user name are of one script.")
    return normal


def _is_letter(char: str) -> bool:
    return unicodedata.category(char) in ("Lu", "Ll", "Lt", "Lm", "Lo")


def _is_digit(char: str) -> bool:
    return unicodedata.category(char) == "Nd"


def _is_mark(char: str) -> bool:
    return unicodedata.category(char) in ("Mn", "Mc")
