"""How an attribute of an event is spelt as a header: one way for each value. Pure.

Source: the NATS protocol binding of CloudEvents 1.0.2.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import unquote

TRACE_HEADER: Final = "traceparent"
MOST_CHARS: Final = 8_192
"""Of all headers of an event: whoever answers it repeats some of them, and must fit as well."""
_ID: Final = re.compile(r"[!-~]{1,64}\Z")
_PERSON: Final = re.compile(r"[^\x00-\x1f\x7f]{1,128}\Z")
_NAMES: Final = {"ce-id": _ID, "ce-cause": _ID, "ce-onbehalfof": _PERSON, "ce-sealedfor": _PERSON}
_NOT_PLAIN = re.compile(r'[^\x21-\x7e]+|["%]+')
_PLAIN = re.compile(r"[!#$&-~]+\Z")


def encode_attribute(value: str) -> str:
    """Percent-encode an attribute for a header, as the NATS binding says.

    Space, double quote, percent and all outside printable ASCII are encoded as UTF-8 bytes.
    """
    return value if is_plain(value) else _NOT_PLAIN.sub(_percent_encoded, value)


def is_plain(value: str) -> bool:
    """Whether it is there, and nothing in it has to be encoded."""
    return _PLAIN.match(value) is not None


def is_canonical(value: str) -> bool:
    """Whether `encode_attribute` spells the value so: no two spellings mean the same."""
    if is_plain(value):
        return True
    return value.isascii() and "%" in value and encode_attribute(unquote(value)) == value


def misnamed(headers: Mapping[str, str]) -> list[str]:
    """Attributes that name an event or a person as nobody may be named.

    Answers, alarms and the databases name them as well, and must have room for it.
    """
    return [
        name
        for name, fits in _NAMES.items()
        if name in headers and not fits.match(unquote(headers[name]))
    ]


def is_misspelt(name: str) -> bool:
    """Whether no sender spells an attribute so; a reader that ignores case may take it for one."""
    lower = name.lower()
    differs = name != lower or not name.isascii()
    return differs and lower.startswith(("ce-", "swarm-", TRACE_HEADER))


def _percent_encoded(stretch: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in stretch.group().encode())
