"""The key that signs the audit log's checkpoints, and the root's word that it does."""

from contextlib import suppress
from pathlib import Path

from nacl.signing import SigningKey

from bus import jwt
from bus.errors import IdentityError
from bus.identity import Authority, vouch_for_log
from bus.nkey import AgentKey
from cluster.errors import HomeNotUsable
from cluster.home import Home, secret, write_private
from cluster.people import audit_key_file
from storage.note import VerifierKey


def log_origin(home: Home) -> str:
    """The audit log's own name, which stands in each checkpoint."""
    return f"vllm-swarm/{home.instance}"


def log_key_jwt_file(home: Home) -> Path:
    """Where the root's word over the log's key is kept; it is no secret."""
    return home.keys / "audit.jwt"


def log_verifier_key(home: Home) -> VerifierKey:
    """What checks checkpoints; the key is made where there is none.

    Raises:
        HomeNotUsable: it cannot be read or written.
    """
    key = SigningKey(bytes.fromhex(secret(audit_key_file(home))))
    return VerifierKey(name=log_origin(home), public_key=key.verify_key.encode())


def log_key_jwt(home: Home, root: Authority) -> str:
    """The root's word over the log's key, given anew where the root or the key is another.

    Raises:
        HomeNotUsable: it cannot be read or written.
    """
    path, key = log_key_jwt_file(home), log_verifier_key(home)
    fresh = root.vouch_for_log(key.name, str(key))
    with suppress(OSError, IdentityError):
        kept = path.read_text().strip()
        if _said(kept) == _said(fresh):
            return kept
    try:
        write_private(path, f"{fresh}\n".encode())
    except OSError as error:
        raise HomeNotUsable(f"Cannot write {path}: {error.strerror}.") from error
    return fresh


def log_key_word(home: Home, root: AgentKey) -> str:
    """The word over the log's key of a root that is not in force yet; it is kept nowhere here.

    Raises:
        HomeNotUsable: the key cannot be read or written.
    """
    key = log_verifier_key(home)
    return vouch_for_log(root, key.name, str(key))


def _said(token: str) -> tuple[object, ...]:
    """Who vouches for which key, whenever that was said."""
    claims = jwt.decode(token)
    return tuple(claims.get(name) for name in ("iss", "name", "sub", "nats"))
