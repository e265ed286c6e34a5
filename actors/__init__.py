"""The agents and the coordinator: what they decide and the Ray actors that run them."""
