"""A witness: cosigns the checkpoints of a log that only ever grows, and no others.

It is a program of its own, with its own key, for somebody else than who runs the swarm. It
needs nothing of the swarm but the log's verifier key, and speaks C2SP tlog-witness over HTTP.
"""
