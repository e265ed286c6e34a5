"""`make bench`: print the figures, each beside the raw part's."""

import asyncio
import os
import platform

import uvloop

from benchmarks import (
    audit_log,
    audited,
    memory,
    people,
    policy,
    recovery,
    round_trip,
    serving,
    workflows,
)
from benchmarks.world import quiet

SYNCS = {"always": "fsync on every write", "2m": "JetStream's default"}


async def main() -> None:
    quiet()
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.machine()}")
    print("load average before:", ", ".join(f"{load:.1f}" for load in os.getloadavg()))
    print(f"\nOne question to the policy, aim {policy.AIM_US:g} us")
    for name, microseconds in policy.measure().items():
        print(f"  {name:<22} {microseconds:6.2f} us")
    print("\nRequest to reply between two members in two processes, 1 KiB, through the stream")
    for sync, meaning in SYNCS.items():
        for name, (median, p99) in (await round_trip.measure(sync)).items():
            print(f"  {meaning:<22} {name:<28} median {median:6.2f} ms   p99 {p99:6.2f} ms")
    print(f"\nEvents of 1 KiB end to end, {audited.SENDERS} senders in one process")
    for sync, meaning in SYNCS.items():
        for name, rate in (await audited.measure(sync)).items():
            print(f"  {meaning:<22} {name:<28} {rate:8,.0f} events/s")
    await growth()
    print(
        f"\nWorkflows of five steps on an instant model, {workflows.EVENTS} events each: "
        f"alone, and {workflows.AT_ONCE} at once"
    )
    for sync, meaning in SYNCS.items():
        for name, figures in (await workflows.measure(sync)).items():
            print(
                f"  {meaning:<22} {name:<28} median {figures.alone_ms:6.2f} ms   "
                f"{figures.per_second:6.1f} workflows/s   {figures.events:4.1f} events"
            )
    print("\nAuth endpoints of one gateway over HTTP")
    for sync, meaning in SYNCS.items():
        await people.show(sync, meaning)
    await memory.show()


async def growth() -> None:
    """The audit log alone, without the stream."""
    print("\nThe audit log by its size: an event of 1 KiB recorded, and a proof read (median)")
    for size, cost in (await audit_log.measure()).items():
        print(
            f"  {size:9,} leaves   {cost.append_us:6.1f} us/event"
            f"   inclusion {cost.inclusion_ms:5.2f} ms   consistency {cost.consistency_ms:5.2f} ms"
        )
    print(f"  Evidence bundles verified: {audit_log.verifier_rate():,.0f} events/s on one core")


async def standstills() -> None:
    print("\nStandstill of a run whose part is killed, in a whole swarm, process start included")
    for part, (typical, longest) in (await recovery.measure()).items():
        aim = recovery.AIMS_S[part]
        print(f"  {part:<22} median {typical:6.2f} s   longest {longest:6.2f} s   aim {aim:g} s")


async def caches() -> None:
    from benchmarks import prefix_cache  # noqa: PLC0415  imports Ray, which child processes need not

    print(f"\nPrompt tokens that {prefix_cache.REPLICAS} replicas of vLLM found in cache")
    prefix_cache.show(await prefix_cache.measure())


if __name__ == "__main__":
    uvloop.run(main())
    asyncio.run(caches())
    asyncio.run(standstills())
    asyncio.run(serving.show())
