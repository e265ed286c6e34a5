"""The servers under a swarm: each embedded on this machine, or external by URL."""
