"""The gateway's routes, one concern a module."""
