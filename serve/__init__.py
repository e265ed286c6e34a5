"""The model behind an OpenAI-compatible interface, and the HTTP gateway."""
