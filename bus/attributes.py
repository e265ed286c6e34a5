"""How an attribute of an event is spelt as a header: one way for each value. Pure.

Source: the NATS protocol binding of CloudEvents 1.0.2.
"""

import re
from typing import Final
from urllib.parse import unquote

TRACE_HEADER: Final = "traceparent"
MOST_CHARS: Final = 8_192
"""Of all headers of an event: whoever answers it repeats some of them, and must fit as well."""
_ID = re.compile(r"[!-~]{1,64}\Z")
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
    return is_plain(value) or ("%" in value and encode_attribute(unquote(value)) == value)


def is_id(value: str) -> bool:
    """Whether an event may be named so: answers, alarms and the audit log name it as well."""
    return _ID.match(value) is not None


def is_misspelt(name: str) -> bool:
    """Whether a reader that ignores case would take it for an attribute that is not signed."""
    lower = name.lower()
    return name != lower and lower.startswith(("ce-", "swarm-", TRACE_HEADER))


def _percent_encoded(stretch: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in stretch.group().encode())
