"""Reading text of which every byte matters: one spelling for each value, no other is taken."""

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]

DIGEST_BYTES: Final = 32
_MOST: Final = 2**63
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)


class NotProven(Exception):
    """The evidence does not show what it claims; the message says where and why."""


def canonical(value: Json) -> str:
    """The one serialisation: ASCII, keys sorted, no white space, a newline at the end."""
    return json.dumps(value, ensure_ascii=True, sort_keys=True, separators=(",", ":")) + "\n"


def read_canonical(raw: bytes, what: str) -> Json:
    """The JSON document that these bytes are.

    Raises:
        NotProven: they are not JSON, or not its one serialisation.
    """
    try:
        text = raw.decode("ascii")
        value: Json = json.loads(
            text, object_pairs_hook=_once, parse_float=_no_number, parse_constant=_no_number
        )
        written = canonical(value)
    except (ValueError, RecursionError) as error:
        raise NotProven(f"{what} is not JSON in ASCII: {error}") from error
    if written != text:
        raise NotProven(f"{what} is not written in the one canonical way")
    return value


def read_json(raw: bytes, what: str) -> Mapping[str, Json]:
    """A JSON object as a program wrote it, in whatever spelling; no name stands in it twice.

    Raises:
        NotProven: it is none.
    """
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise NotProven(f"{what} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise NotProven(f"{what} is not a JSON object")
    return value


def members(value: Json, what: str, *names: str) -> tuple[Json, ...]:
    """The values of an object that has these members and no others, in this order."""
    if not isinstance(value, dict) or value.keys() != set(names):
        raise NotProven(f"{what} is not an object of {', '.join(names)}")
    return tuple(value[name] for name in names)


def items(value: Json, what: str) -> list[Json]:
    """The elements of an array."""
    if not isinstance(value, list):
        raise NotProven(f"{what} is not an array")
    return value


def string(value: Json, what: str) -> str:
    """A string that can be written as UTF-8."""
    if not isinstance(value, str) or not _is_writable(value):
        raise NotProven(f"{what} is not a string")
    return value


def number(value: Json, what: str) -> int:
    """A whole number from 0 to 2^63 - 1."""
    if type(value) is not int or not 0 <= value < _MOST:
        raise NotProven(f"{what} is not a number from 0 on")
    return value


def digest(value: Json, what: str) -> bytes:
    """32 bytes in lower-case hexadecimal."""
    if not isinstance(value, str) or len(value) != 2 * DIGEST_BYTES or not _HEX.fullmatch(value):
        raise NotProven(f"{what} is not 64 hexadecimal digits")
    return bytes.fromhex(value)


def base64_bytes(value: Json, what: str) -> bytes:
    """Bytes in standard base64, padded."""
    text = value if isinstance(value, str) else "?"
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotProven(f"{what} is not base64") from error
    if base64.b64encode(raw).decode() != text:
        raise NotProven(f"{what} is not canonical base64")
    return raw


def base64url_bytes(text: str, what: str) -> bytes:
    """Bytes in base64url without padding."""
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotProven(f"{what} is not base64url") from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise NotProven(f"{what} is not canonical base64url")
    return raw


def _once(pairs: Sequence[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def _no_number(text: str) -> NoReturn:
    message = f"{text[:20]} is not a whole number"
    raise ValueError(message)


def _is_writable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
