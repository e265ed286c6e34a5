"""The Merkle tree against RFC 6962's own recursive words, and against pymerkle."""

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree, InvalidProof
from pymerkle import verify_consistency as their_verify_consistency

from storage.errors import BadProof
from storage.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    load_frontier,
    verify_consistency,
    verify_inclusion,
)

LEAVES = st.lists(st.binary(max_size=40), max_size=80)
SOME_LEAVES = st.lists(st.binary(max_size=40), min_size=1, max_size=80)

# The leaves and roots of the certificate-transparency reference tests.
VECTOR_LEAVES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
VECTOR_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


class Store(dict[tuple[int, int], bytes]):
    """Nodes by (level, index); counts what is read."""

    reads = 0

    def get_node(self, level: int, index: int) -> bytes:
        self.reads += 1
        return self[level, index]


def build(leaves: list[bytes]) -> tuple[Frontier, Store]:
    frontier, nodes = Frontier().append(leaf_hash(leaf) for leaf in leaves)
    return frontier, Store({(n.level, n.index): n.hash for n in nodes})


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    k = naive_split(len(leaves))
    return hashlib.sha256(b"\x01" + naive_root(leaves[:k]) + naive_root(leaves[k:])).digest()


def naive_split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def naive_path(m: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962 section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = naive_split(len(leaves))
    if m < k:
        return [*naive_path(m, leaves[:k]), naive_root(leaves[k:])]
    return [*naive_path(m - k, leaves[k:]), naive_root(leaves[:k])]


def naive_subproof(m: int, leaves: list[bytes], *, complete: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962 section 2.1.2; PROOF calls it with complete=True."""
    if m == len(leaves):
        return [] if complete else [naive_root(leaves)]
    k = naive_split(len(leaves))
    if m <= k:
        return [*naive_subproof(m, leaves[:k], complete=complete), naive_root(leaves[k:])]
    return [*naive_subproof(m - k, leaves[k:], complete=False), naive_root(leaves[:k])]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_tests(size: int) -> None:
    assert build(VECTOR_LEAVES[:size])[0].root().hex() == VECTOR_ROOTS[size]


@settings(deadline=None)
@given(LEAVES)
def test_the_root_is_the_one_that_the_rfc_defines(leaves: list[bytes]) -> None:
    assert build(leaves)[0].root() == naive_root(leaves)


@settings(deadline=None)
@given(SOME_LEAVES, st.lists(st.integers(0, 80), max_size=6))
def test_batches_do_not_matter(leaves: list[bytes], cuts: list[int]) -> None:
    bounds = [0, *sorted(min(cut, len(leaves)) for cut in cuts), len(leaves)]
    frontier, nodes = Frontier(), []
    for start, end in pairwise(bounds):
        frontier, added = frontier.append(leaf_hash(leaf) for leaf in leaves[start:end])
        nodes += added
    whole, all_nodes = Frontier().append(leaf_hash(leaf) for leaf in leaves)
    assert frontier == whole
    assert nodes == all_nodes


@settings(deadline=None)
@given(LEAVES)
def test_every_complete_subtree_is_produced_once_with_its_root(leaves: list[bytes]) -> None:
    _, nodes = Frontier().append(leaf_hash(leaf) for leaf in leaves)
    expected = {
        (level, index): naive_root(leaves[index << level : (index + 1) << level])
        for level in range(8)
        for index in range(len(leaves) >> level)
    }
    assert {(n.level, n.index): n.hash for n in nodes} == expected
    assert len(nodes) == len(expected)


@settings(deadline=None)
@given(LEAVES)
def test_a_stored_frontier_is_the_same_as_a_grown_one(leaves: list[bytes]) -> None:
    frontier, store = build(leaves)
    assert load_frontier(len(leaves), store.get_node) == frontier
    assert store.reads == len(leaves).bit_count()


@settings(deadline=None)
@given(SOME_LEAVES, st.data())
def test_inclusion_proofs_are_those_of_the_rfc_and_verify(
    leaves: list[bytes], data: st.DataObject
) -> None:
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    _, store = build(leaves)
    proof = inclusion_proof(index, size, store.get_node)
    assert proof == naive_path(index, leaves[:size])
    assert store.reads <= 2 * len(leaves).bit_length()
    root = naive_root(leaves[:size])
    leaf = leaf_hash(leaves[index])
    verify_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=root)


@settings(deadline=None)
@given(SOME_LEAVES, st.data())
def test_consistency_proofs_are_those_of_the_rfc_and_verify(
    leaves: list[bytes], data: st.DataObject
) -> None:
    new = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(0, new))
    _, store = build(leaves)
    proof = consistency_proof(old, new, store.get_node)
    assert proof == (naive_subproof(old, leaves[:new], complete=True) if old else [])
    assert store.reads <= 2 * len(leaves).bit_length()
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves[:new])
    verify_consistency(old=old, new=new, proof=proof, old_root=old_root, new_root=new_root)


@settings(deadline=None)
@given(SOME_LEAVES, st.data())
def test_no_altered_inclusion_proof_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    _, store = build(leaves)
    size = len(leaves)
    index = data.draw(st.integers(0, size - 1))
    root, leaf = naive_root(leaves), leaf_hash(leaves[index])
    proof = inclusion_proof(index, size, store.get_node)
    other = data.draw(st.integers(0, size).filter(lambda at: at != index))
    altered: list[dict[str, object]] = [
        {"proof": [*proof, root]},
        {"proof": proof[:-1]} if proof else {"proof": [leaf]},
        {"root": leaf_hash(root)},
        {"leaf": leaf_hash(leaf)},
        {"index": -1},
    ]
    altered += [{"proof": [*proof[:i], leaf_hash(h), *proof[i + 1 :]]} for i, h in enumerate(proof)]
    if other == size or leaf_hash(leaves[other]) != leaf:
        altered.append({"index": other})
    for change in altered:
        given_ = {"leaf": leaf, "index": index, "size": size, "proof": proof, "root": root}
        with pytest.raises(BadProof):
            verify_inclusion(**{**given_, **change})  # type: ignore[arg-type]


@settings(deadline=None)
@given(SOME_LEAVES, st.data())
def test_no_altered_consistency_proof_verifies(leaves: list[bytes], data: st.DataObject) -> None:
    _, store = build(leaves)
    new = len(leaves)
    old = data.draw(st.integers(0, new))
    old_root, new_root = naive_root(leaves[:old]), naive_root(leaves)
    proof = consistency_proof(old, new, store.get_node)
    altered: list[dict[str, object]] = [
        {"proof": [*proof, new_root]},
        {"old_root": leaf_hash(old_root)},
        {"old": new + 1},
    ]
    if old:  # an empty tree is a prefix of every tree
        altered.append({"new_root": leaf_hash(new_root)})
    if proof:
        altered.append({"proof": proof[:-1]})
    altered += [{"proof": [*proof[:i], leaf_hash(h), *proof[i + 1 :]]} for i, h in enumerate(proof)]
    for change in altered:
        given_ = {
            "old": old,
            "new": new,
            "proof": proof,
            "old_root": old_root,
            "new_root": new_root,
        }
        with pytest.raises(BadProof):
            verify_consistency(**{**given_, **change})  # type: ignore[arg-type]


@settings(max_examples=40, deadline=None)
@given(SOME_LEAVES, st.data())
def test_pymerkle_builds_the_same_tree(leaves: list[bytes], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    theirs = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        theirs.append_entry(leaf)
    frontier, store = build(leaves)
    assert theirs.get_root() == frontier.root()
    # pymerkle counts leaves from 1 and starts a path with the leaf's own hash
    path = theirs.prove_inclusion(index + 1, size).path
    assert path[1:] == inclusion_proof(index, size, store.get_node)
    assert path[0] == leaf_hash(leaves[index])


@settings(max_examples=40, deadline=None)
@given(SOME_LEAVES, st.data())
def test_pymerkle_finds_the_same_trees_consistent(leaves: list[bytes], data: st.DataObject) -> None:
    """Its proofs are longer than RFC 6962's, so the trees are compared, not the proofs."""
    new = data.draw(st.integers(1, len(leaves)))
    old = data.draw(st.integers(1, new))
    theirs = InmemoryTree(algorithm="sha256")
    for leaf in leaves:
        theirs.append_entry(leaf)
    _, store = build(leaves)
    old_root, new_root = (load_frontier(size, store.get_node).root() for size in (old, new))
    their_proof = theirs.prove_consistency(old, new)
    their_verify_consistency(old_root, new_root, their_proof, prior_size=old, later_size=new)
    with pytest.raises(InvalidProof):
        their_verify_consistency(leaf_hash(b"forked"), new_root, their_proof)
    verify_consistency(
        old=old,
        new=new,
        proof=consistency_proof(old, new, store.get_node),
        old_root=theirs.get_root(old),
        new_root=theirs.get_root(new),
    )


def test_an_empty_tree_has_the_hash_of_nothing() -> None:
    assert Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()


def test_a_frontier_that_does_not_fit_its_size_is_refused() -> None:
    with pytest.raises(ValueError, match="right-edge"):
        Frontier(size=3, hashes=(EMPTY_ROOT,))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (3, 3), (-1, 3)])
def test_there_is_no_inclusion_proof_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="not in a tree"):
        inclusion_proof(index, size, Store().get_node)


@pytest.mark.parametrize(("old", "new"), [(4, 3), (-1, 3)])
def test_there_is_no_consistency_proof_backwards(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="prefix"):
        consistency_proof(old, new, Store().get_node)


def test_an_empty_consistency_proof_does_not_pass_between_sizes() -> None:
    with pytest.raises(BadProof, match="empty"):
        verify_consistency(old=3, new=4, proof=[], old_root=b"a", new_root=b"a")
