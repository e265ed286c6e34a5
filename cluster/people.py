"""What the first start leaves behind for people: the schema, an admin user, the signing keys."""

from pathlib import Path
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cluster.home import Home, secret
from policies.passwords import Passwords
from policies.tokens import save_private_key
from storage.errors import UserExists
from storage.postgres import Pool, migrate, open_pool
from storage.users import UserStore

log = structlog.get_logger()

ADMIN: Final = "admin"
_PASSWORD_BYTES: Final = 18


def admin_password_file(home: Home) -> Path:
    """Where the first start puts the admin's password, mode 0600."""
    return home.keys / "admin.password"


def token_key_file(home: Home) -> Path:
    """The Ed25519 key that signs access tokens."""
    return home.keys / "tokens.pem"


def audit_key_file(home: Home) -> Path:
    """The Ed25519 seed, in hex, that signs checkpoints of the audit log."""
    return home.keys / "audit.seed.hex"


def enrolment_secret_file(home: Home) -> Path:
    """The secret that grants members the right to ask for credentials."""
    return home.keys / "enrolment.secret"


def attempt_secret_file(home: Home) -> Path:
    """The secret of the hashes that stand for names and addresses in the log."""
    return home.keys / "attempts.secret"


async def prepare_people(home: Home, database_url: str) -> None:
    """Bring the schema up to date and make sure that somebody can log in.

    Raises:
        StorageError: Postgres does not answer, or its schema is newer than this program.
        HomeNotUsable: a key or password cannot be written.
    """
    secret(enrolment_secret_file(home))
    secret(audit_key_file(home))
    secret(attempt_secret_file(home))
    if not token_key_file(home).exists():
        save_private_key(token_key_file(home), Ed25519PrivateKey.generate())
    async with open_pool(database_url, max_size=2) as pool:
        await migrate(pool)
        await _ensure_admin(home, pool)


async def _ensure_admin(home: Home, pool: Pool) -> None:
    users = UserStore(pool)
    if await users.count():
        return
    password = secret(admin_password_file(home), bytes_of_entropy=_PASSWORD_BYTES)
    try:
        await users.create(
            username=ADMIN, password_hash=await Passwords().hash(password), role="admin"
        )
    except UserExists:
        log.info("people.admin_made_elsewhere")
