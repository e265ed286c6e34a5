"""Postgres: users, the audit log with its Merkle tree."""
