"""The verifier's trees against those of pymerkle: two implementations that share no code."""

import hashlib

import pytest
from pymerkle import InmemoryTree

from storage.merkle import Frontier, consistency_proof, edge_nodes, inclusion_proof
from swarm.verify import NotProven
from swarm.verify.tree import check_consistency, leaf_hash, root_from_edge, root_from_inclusion

LARGEST = 34
LEAVES = [b"leaf %d" % number for number in range(LARGEST)]
HASHES = [leaf_hash(leaf) for leaf in LEAVES]
_, MADE = Frontier().append(HASHES)
NODES = {(node.level, node.index): node.hash for node in MADE}


def roots() -> list[bytes]:
    """By size, from an independent library."""
    tree = InmemoryTree(algorithm="sha256")
    found = [hashlib.sha256(b"").digest()]
    for leaf in LEAVES:
        tree.append_entry(leaf)
        found.append(tree.get_root())
    return found


ROOTS = roots()


def get(level: int, index: int) -> bytes:
    return NODES[level, index]


@pytest.mark.parametrize("size", range(1, LARGEST + 1))
def test_every_proof_leads_to_the_root_of_another_library_and_a_spoilt_one_does_not(
    size: int,
) -> None:
    for index in range(size):
        proof = inclusion_proof(index, size, get)
        assert root_from_inclusion(HASHES[index], index, size, proof) == ROOTS[size]
        for spoilt in (proof[1:], proof[:-1], [*proof, bytes(32)], [bytes(32), *proof]):
            if spoilt != proof:
                assert _root_or_none(HASHES[index], index, size, spoilt) != ROOTS[size]
    with pytest.raises(NotProven):
        root_from_inclusion(HASHES[0], size, size, [])
    for old in range(1, size + 1):
        proof = consistency_proof(old, size, get)
        check_consistency(old, ROOTS[old], size, ROOTS[size], proof)
        for spoilt in (proof[1:], proof[:-1], [*proof, bytes(32)], proof[::-1]):
            if spoilt != proof:
                with pytest.raises(NotProven):
                    check_consistency(old, ROOTS[old], size, ROOTS[size], spoilt)
        edge = [get(*at) for at in edge_nodes(old)]
        assert root_from_edge(old, edge, HASHES[old:size]) == ROOTS[size]
    for old in (0, size + 1):
        with pytest.raises(NotProven):
            check_consistency(old, ROOTS[0], size, ROOTS[size], [])


def _root_or_none(leaf: bytes, index: int, size: int, proof: list[bytes]) -> bytes | None:
    try:
        return root_from_inclusion(leaf, index, size, proof)
    except NotProven:
        return None


def test_an_edge_with_another_number_of_subtrees_is_refused() -> None:
    with pytest.raises(NotProven, match="another number"):
        root_from_edge(3, [bytes(32)], [])
