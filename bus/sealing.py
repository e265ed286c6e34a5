"""Personal fields of a payload, sealed under a key of the person whom they are about. Pure.

On the wire they are absent, and the field ``sealed`` holds them: JSON, encrypted with
XChaCha20-Poly1305 and bound to the event that carries it. Signatures and proofs cover what is
on the wire. Where the key is destroyed they go on to verify, and nobody reads the fields again.

The nonce is derived from the key and the content, so that the same thing said twice is the
same bytes. Sources: RFC 8439; draft-irtf-cfrg-xchacha-03; deriving nonces as RFC 5297 does.
"""

import hashlib
from typing import Final

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
)
from nacl.exceptions import CryptoError
from pydantic import JsonValue
from pydantic_core import from_json, to_json

from bus.errors import MalformedEvent, SealBroken
from bus.nkey import decode_base64url, encode_base64url, is_base64url
from bus.payload import Payload

SUBJECT_KEY_BYTES: Final = 32
_SEALED: Final = "sealed"
_NONCE_BYTES: Final = 24
_NAME_BYTES: Final = 8
_PURPOSE: Final = b"swarm-seal-nonce"
_NAMING: Final = b"swarm-seal-name"


def sealed_body(payload: Payload, key: bytes | None, *, binding: bytes) -> bytes:
    """The payload as JSON, with what is personal sealed.

    Args:
        payload: of a type that has personal fields.
        key: 32 bytes; None keeps nothing of them, because the person is forgotten.
        binding: what the event is known by; only together with it can the fields be read.
    """
    names = set(payload.PERSONAL)
    clear = payload.model_dump_json(exclude=names).encode()
    box = b""
    if key is not None:
        personal = payload.model_dump_json(include=names).encode()
        nonce = _nonce(personal, key, binding)
        box = _name_of(key) + nonce
        box += crypto_aead_xchacha20poly1305_ietf_encrypt(personal, binding, nonce, key)
    sealed = b'"%b":"%b"}' % (_SEALED.encode(), encode_base64url(box).encode())
    return clear[:-1] + (b"" if clear == b"{}" else b",") + sealed


def opened_body(body: bytes, model: type[Payload], key: bytes, *, binding: bytes) -> bytes | None:
    """The payload as it was before `sealed_body`.

    None where nothing was kept, or it was sealed under a key that this person had before: no
    one can read that any more.

    Raises:
        MalformedEvent: it is not of that form.
        SealBroken: it was changed, or was sealed for another event.
    """
    clear, text = _parts(body, model)
    box = decode_base64url(text)
    if not box or not box.startswith(_name_of(key)):
        return None
    nonce, rest = box[_NAME_BYTES : _NAME_BYTES + _NONCE_BYTES], box[_NAME_BYTES + _NONCE_BYTES :]
    try:
        personal = from_json(crypto_aead_xchacha20poly1305_ietf_decrypt(rest, binding, nonce, key))
    except (CryptoError, ValueError) as error:
        raise SealBroken(f"what is sealed in {model.TYPE} cannot be opened") from error
    if not isinstance(personal, dict) or clear.keys() & personal.keys():
        raise SealBroken(f"what is sealed in {model.TYPE} is not what is personal there")
    return _in_order({**clear, **personal}, model)


def withheld_body(body: bytes, model: type[Payload]) -> bytes:
    """The payload for who has no key: with what the model puts in place of personal fields.

    Raises:
        MalformedEvent: it is not of the form that `sealed_body` gives it.
    """
    clear, box = _parts(body, model)
    if not is_base64url(box):
        raise MalformedEvent(f"what is sealed in {model.TYPE} is not base64url")
    return _in_order({**model.PERSONAL, **clear}, model)


def _name_of(key: bytes) -> bytes:
    """Tells keys apart, and nothing else of them."""
    return hashlib.blake2b(key, digest_size=_NAME_BYTES, person=_NAMING).digest()


def _nonce(personal: bytes, key: bytes, binding: bytes) -> bytes:
    said = b"%d %b%b" % (len(binding), binding, personal)
    return hashlib.blake2b(said, key=key, digest_size=_NONCE_BYTES, person=_PURPOSE).digest()


def _parts(body: bytes, model: type[Payload]) -> tuple[dict[str, JsonValue], str]:
    """The fields that are in the clear, and the box in base64url."""
    try:
        fields = from_json(body)
    except ValueError as error:
        raise MalformedEvent(f"the payload of {model.TYPE} is not JSON") from error
    box = fields.pop(_SEALED, None) if isinstance(fields, dict) else None
    if not isinstance(box, str) or not model.PERSONAL:
        raise MalformedEvent(f"the payload of {model.TYPE} is not sealed as it has to be")
    return fields, box


def _in_order(fields: dict[str, JsonValue], model: type[Payload]) -> bytes:
    """The JSON that the payload itself would make."""
    known = {name: fields[name] for name in model.model_fields if name in fields}
    return to_json({**known, **fields})
