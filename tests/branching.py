"""Logs in memory that grow, and branch: what a witness is shown."""

from collections.abc import Sequence
from dataclasses import dataclass

from nacl.signing import SigningKey

from storage.checkpoint import checkpoint_signer
from storage.cosign_request import write_request
from storage.merkle import Frontier, consistency_proof, leaf_hash
from storage.note import VerifierKey

ORIGIN = "example.com/audit"
LOG_KEY = SigningKey(bytes(32))
LOG_VKEY = VerifierKey(name=ORIGIN, public_key=LOG_KEY.verify_key.encode())
SIGN = checkpoint_signer(ORIGIN, LOG_KEY)


@dataclass(frozen=True)
class Branch:
    """One history of a log. Another one of the same key is a branch of it."""

    leaves: tuple[bytes, ...]

    @classmethod
    def of(cls, *stretches: tuple[str, int]) -> "Branch":
        """So many leaves of each name."""
        return cls(
            tuple(f"{name}{at}".encode() for name, count in stretches for at in range(count))
        )

    def root(self, size: int) -> bytes:
        return Frontier().append(leaf_hash(leaf) for leaf in self.leaves[:size])[0].root()

    def proof(self, old: int, new: int) -> list[bytes]:
        _, nodes = Frontier().append(leaf_hash(leaf) for leaf in self.leaves[:new])
        stored = {(node.level, node.index): node.hash for node in nodes}
        return consistency_proof(old, new, lambda level, index: stored[level, index])

    def note(self, size: int) -> str:
        return SIGN(size, self.root(size))

    def request(
        self,
        old: int,
        new: int,
        *,
        proof: Sequence[bytes] | None = None,
        note: str | None = None,
    ) -> bytes:
        if proof is None:
            proof = self.proof(old, new) if old <= new else []
        return write_request(old, proof, note or self.note(new))
