"""Give the local swarm a job and print the result. Start one first: swarm up."""

import sys

from swarm import Swarm

objective = " ".join(sys.argv[1:]) or "Design a rate limiter for a public HTTP API"
with Swarm.connect() as swarm:
    run = swarm.submit(objective)
    print(f"run {run.id}")
    for event in run.events():
        print(f"{event.stream_sequence:>6}  {event.source}  {event.type}")
    print(run.result)
