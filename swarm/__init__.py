"""The public face: the SDK, the command line."""
