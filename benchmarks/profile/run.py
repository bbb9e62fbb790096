"""What a profile finds, against the truth.

Without words: simulated engines with random hidden parameters, profiled on a virtual clock by the code that measures
real ones; how far chunk, slots, work and iteration times are off. ``--embedded``: the real engine, twice, and then
shapes that neither profile was fitted to, on replicas of their own; whether the two agree within their intervals, and
how far the predicted throughput is off. That needs a machine with nothing else on it, and says so where it was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from headrace.bench.errors import BenchError
from headrace.bench.profiling.asking import Asked, Server, ask
from headrace.bench.profiling.clock import WallClock
from headrace.bench.profiling.disturbance import MOST, CoreWatch
from headrace.bench.profiling.effort import FULL, QUICK
from headrace.bench.profiling.evidence import Blocks
from headrace.bench.profiling.lock import alone, machine_lock
from headrace.bench.profiling.outcome import Measured
from headrace.bench.profiling.plan import Plan
from headrace.bench.profiling.profiler import measure_profile
from headrace.bench.profiling.prompts import Prompts
from headrace.bench.profiling.replicas import replicas_that_fit, running_replicas
from headrace.bench.profiling.shapes import Case, Shape
from headrace.bench.profiling.station import Measure, Station, run_stations
from headrace.bench.profiling.truth import drawn, errors_of
from headrace.bench.profiling.virtual import virtual_profile
from headrace.cli.profile_view import print_profile
from headrace.engines.base import ModelSettings
from headrace.models.pull import pull
from headrace.models.registry import Registry
from headrace.profiles.hardware import this_machine
from headrace.profiles.profile import Profile
from headrace.wire.client import Client

MODEL = "smollm2-135m-instruct"
SHORT = bool(os.environ.get("QUICK"))
WITHIN = 0.03
"""Of simulated engines: chunk, throughput / latency at the slots found, and work."""
MIXES = {Shape(1024, 128): 0.05, Shape(128, 64): 0.10}
"""Shapes that no profile is fitted to, and how far the predicted throughput may be off."""
MIX_S = 120.0
QUIET_S = 20.0
ATTEMPTS = 3


def engines(many: int, seed: int, noise: float) -> dict[str, Any]:
    """Profiles of drawn engines. One line for each whose error is more than ``WITHIN``."""
    draw = random.Random(seed)
    rows, began = [], time.monotonic()
    off = cut_short = 0
    for number in range(many):
        truth, most_slots = drawn(draw)
        measured = virtual_profile(truth, FULL, slots=most_slots, seed=number, noise=noise)
        errors = errors_of(measured, truth, most_slots)
        cut_short += bool(measured.profile.cut_short)
        rows.append({"slots": measured.profile.slots, "virtual_s": measured.profile.duration_s, **asdict(errors)})
        if max(abs(errors.chunk), errors.merit, abs(errors.work)) > WITHIN:
            off += not measured.profile.cut_short
            words = ", ".join(measured.profile.cut_short) or "measured in full"
            print(f"off: engine {number} ({words}), {most_slots} slots at most, {truth}: {errors}")
    figures = {
        name: {
            "median": sorted(abs(row[name]) for row in rows)[many // 2],
            "most": max(abs(row[name]) for row in rows),
            "within": sum(abs(row[name]) <= WITHIN for row in rows),
        }
        for name in ("chunk", "merit", "work", "steep", "iteration")
    }
    covered = sum(row["chunk_in_interval"] for row in rows)
    print(f"{many} engines, noise {noise:g}, {time.monotonic() - began:.0f} s")
    for name, figure in figures.items():
        print(f"  {name:>9}: median {figure['median']:.2%}, most {figure['most']:.2%}, within 3% {figure['within']}")
    print(f"  {cut_short} cut short, as they say; {off} off that were not")
    print(f"  longest profile {max(row['virtual_s'] for row in rows):.0f} s of virtual time")
    if noise:
        print(f"  the chunk's 95% interval holds the truth {covered} times of {many}")
    return {
        "engines": many,
        "seed": seed,
        "noise": noise,
        "errors": figures,
        "chunk_in_interval": covered if noise else None,
        "longest_s": max(row["virtual_s"] for row in rows),
        "cut_short": cut_short,
        "holds": off == 0,
    }


def wait_for_quiet(minutes: float) -> bool:
    """Until nobody else used the cores for a while; False where that did not come."""
    until = time.monotonic() + 60 * minutes
    watch = CoreWatch([])
    while True:
        look = watch.look()
        time.sleep(QUIET_S)
        if (watch.others(look) or 0.0) <= MOST:
            return True
        if time.monotonic() > until:
            return False


async def embedded(model: ModelSettings, wait_minutes: float) -> dict[str, Any]:
    """Two profiles, and the mixes."""
    profiles = []
    for number in range(2):
        measured = await valid_profile(model, seed=number, wait_minutes=wait_minutes)
        profiles.append(measured.profile)
        print_profile(measured.profile)
    first, second = profiles
    agree = max(first.chunk_low, second.chunk_low) <= min(first.chunk_high, second.chunk_high)
    print(
        f"chunk {first.chunk_mean:.1f} [{first.chunk_low:.1f}, {first.chunk_high:.1f}] and {second.chunk_mean:.1f} "
        f"[{second.chunk_low:.1f}, {second.chunk_high:.1f}]: {'agree' if agree else 'DO NOT AGREE'}"
    )
    blocks = await mixes(model, first.slots, wait_minutes)
    rows = [mix(blocks, shape, profile) for shape in MIXES for profile in profiles]
    for row in rows:
        words = f"predicted {row['predicted']:.1f} ({row['error']:+.1%}, allowed {row['allowed']:.0%})"
        spoilt = "" if row["valid"] else "; NOT VALID: disturbed"
        print(f"{row['shape']}: {row['measured']:.1f} input + output tokens/s a replica, {words}{spoilt}")
    valid = not any(profile.problems for profile in profiles) and all(row["valid"] for row in rows)
    return {
        "profiles": [msgspec.to_builtins(profile) for profile in profiles],
        "agree": agree,
        "mixes": rows,
        "valid": valid,
        "holds": valid and agree and all(abs(row["error"]) <= row["allowed"] for row in rows),
    }


async def valid_profile(model: ModelSettings, *, seed: int, wait_minutes: float) -> Measured:
    """A profile that nobody disturbed, or the last of a few attempts."""
    for attempt in range(1, ATTEMPTS + 1):
        if not wait_for_quiet(wait_minutes):
            print("others use the cores: the measurement will hardly be valid")
        measured = await measure_profile(model, QUICK if SHORT else FULL, seed=seed)
        if not measured.profile.problems:
            break
        print(f"attempt {attempt} of {ATTEMPTS} NOT VALID: {'; '.join(measured.profile.problems)}")
    return measured


async def mixes(model: ModelSettings, slots: int, wait_minutes: float) -> Blocks:
    """The shapes on all replicas of the machine, as long as a profile's reference requests."""
    wait_for_quiet(wait_minutes)
    clock, prompts, numbers = WallClock(), Prompts(seed=2), count()
    async with running_replicas(model, replicas_that_fit(model)) as replicas:
        watch = CoreWatch([replica.pid for replica in replicas if replica.pid is not None])
        plan = Plan([Case(shape, slots) for shape in MIXES], seed=0, until_s=15.0 if SHORT else MIX_S, fewest_rounds=1)
        stations = []
        for index, replica in enumerate(replicas):
            server = Server(
                Client(replica.url),
                replica.traits.upstream_model or model.name,
                replica.secret,
                reuse=replica.traits.reuse_after_stream,
            )
            stations.append(Station(index, asking(server, prompts, clock), plan, clock, numbers, watch))
        await run_stations(stations, limit_s=3 * MIX_S)
    return Blocks([turn for station in stations for turn in station.turns])


def asking(server: Server, prompts: Prompts, clock: WallClock) -> Measure:
    async def measure(shape: Shape, number: int) -> Asked:
        return await ask(server, shape, prompts.tokens(shape, number), clock)

    return measure


def mix(blocks: Blocks, shape: Shape, profile: Profile) -> dict[str, Any]:
    case = Case(shape, profile.slots)
    measured = shape.tokens / blocks.mean_s(case)
    work = profile.weights.work(shape.input_tokens, 0, shape.output_tokens)
    predicted = shape.tokens / work * profile.chunk_mean
    return {
        "shape": str(shape),
        "profile": profile.id,
        "measured": measured,
        "predicted": predicted,
        "error": predicted / measured - 1,
        "allowed": MIXES[shape],
        "valid": blocks.quiet(case) > 0,
    }


def main(words: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--embedded", action="store_true", help="the real engine; about half an hour")
    options.add_argument("--engines", type=int, default=20 if SHORT else 100)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--noise", type=float, default=0.05, help="of the second row of engines")
    options.add_argument("--wait", type=float, default=30.0, help="minutes to wait for a quiet machine")
    asked = options.parse_args(words)
    path = Path(__file__).with_name("results.json")
    results: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if asked.embedded:
        pull(MODEL)
        with tempfile.TemporaryDirectory() as folder, alone(machine_lock()):
            found = asyncio.run(embedded(Registry(Path(folder)).get(MODEL), asked.wait))
        results["embedded"] = {"hardware": msgspec.to_builtins(this_machine()), **found}
        holds = bool(found["holds"])
    else:
        exact = engines(asked.engines, asked.seed, 0.0)
        noisy = engines(asked.engines, asked.seed, asked.noise)
        results |= {"exact": exact, "noisy": noisy}
        holds = bool(exact["holds"])
    if not SHORT:
        path.write_text(json.dumps(results, indent=1) + "\n")
    print("holds" if holds else "DOES NOT HOLD")
    return 0 if holds else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(str(error))
