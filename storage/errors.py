"""What can go wrong where data is kept.

StorageError              (SwarmError, bus/errors.py)
  StorageUnavailable      retry: the server does not answer, or not in time
  StorageRefused          the server answered no: credentials, a statement, a limit
  MigrationError          the schema is not the one this program was written for
  UserExists
  UserNotFound
  LastAdmin               the change would leave nobody who may manage users
  TooManyKeys             the user has as many API keys as anyone may have
  VectorMismatch          a collection holds vectors of another size
  VectorPathLocked        another process has the local vector index open
  AuditError
    AuditConflict         retry: another writer appended first
    AuditUnordered        a batch that is not in stream order
    IntegrityError        never retry, never swallow: evidence of tampering or loss
      AuditRewritten      the stream shows another event where one was recorded
      AuditCorrupt        the stored tree does not add up
      BadProof            a Merkle proof that proves nothing
      BadCheckpoint       a checkpoint or signed note that must not be trusted
"""

from bus.errors import SwarmError


class StorageError(SwarmError):
    """Data could not be read or stored."""

    code = "storage_error"


class StorageUnavailable(StorageError):
    """The storage server does not answer."""

    code = "storage_unavailable"
    retryable = True
    hint = "Check that the server is up: swarm status."


class StorageRefused(StorageError):
    """The storage server refused the request."""

    code = "storage_refused"
    hint = "Check the address, the credentials and the server's own log."


class MigrationError(StorageError):
    """The database schema does not fit this program."""

    code = "migration_error"
    hint = "Run the version of the program that the database belongs to, or restore a backup."


class UserExists(StorageError):
    """A user of that name exists already."""

    code = "user_exists"


class UserNotFound(StorageError):
    """No user has that id."""

    code = "user_not_found"


class LastAdmin(StorageError):
    """Nobody would be left who may manage users."""

    code = "last_admin"
    hint = "Make somebody else an admin first."


class TooManyKeys(StorageError):
    """The user has as many API keys as anyone may have."""

    code = "too_many_keys"
    hint = "Revoke a key that is not needed any more."


class VectorMismatch(StorageError):
    """The collection holds vectors of another size."""

    code = "vector_mismatch"
    hint = "The index can be rebuilt from the database: remove the collection and start again."


class VectorPathLocked(StorageError):
    """Another process has the local vector index open."""

    code = "vector_path_locked"
    retryable = True
    hint = "One process may open a local index; stop the other one, or use a Qdrant server by URL."


class AuditError(StorageError):
    """The audit log could not be read or written."""

    code = "audit_error"


class AuditConflict(AuditError):
    """Another writer appended to the audit log first."""

    code = "audit_conflict"
    retryable = True


class AuditUnordered(AuditError):
    """The records are not in strictly rising stream order."""

    code = "audit_unordered"


class IntegrityError(AuditError):
    """The record does not prove what it claims."""

    code = "integrity_error"
    hint = "Treat it as tampering until shown otherwise: keep the data, compare with a copy."


class AuditRewritten(IntegrityError):
    """The stream now shows another event at a sequence that the audit log has recorded."""

    code = "audit_rewritten"


class AuditCorrupt(IntegrityError):
    """The stored Merkle tree does not add up to its recorded root."""

    code = "audit_corrupt"


class BadProof(IntegrityError):
    """The Merkle proof does not lead to the expected root."""

    code = "bad_proof"


class BadCheckpoint(IntegrityError):
    """The checkpoint must not be trusted."""

    code = "bad_checkpoint"
