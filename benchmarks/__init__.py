"""What the swarm's parts cost, each figure beside the raw part's in the same run."""
