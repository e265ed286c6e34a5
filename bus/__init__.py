"""Signed events on NATS JetStream: the envelope, identities, and the log."""
