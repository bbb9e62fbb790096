"""The process of one simulated replica: ``python -m headrace.engines.simulated``, a ``ReplicaSpec`` on stdin.

It reports on stdout as every replica does. SIGTERM ends it; who starts it ties its life to his own
(``fleet.process.spawn``).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import msgspec
import uvloop

from headrace import __version__
from headrace.engines.base import EngineError, ReplicaReport, ReplicaSpec
from headrace.engines.simulated.api import Api, Simulation, error_body
from headrace.engines.simulated.arguments import Arguments, arguments
from headrace.engines.simulated.batching import BatchingCore
from headrace.engines.simulated.embedding import Embeddings
from headrace.engines.simulated.live import LiveBatch
from headrace.engines.simulated.null import NullAnswers
from headrace.wire.limits import Limits
from headrace.wire.server import Server


def main() -> int:
    started = time.monotonic()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the supervisor, which then sends SIGTERM
    try:
        spec = msgspec.json.decode(sys.stdin.buffer.read(), type=ReplicaSpec)
        if spec.cpus:
            os.sched_setaffinity(0, spec.cpus)
        args = arguments(spec.model)
    except (msgspec.DecodeError, EngineError, OSError) as error:
        say(ReplicaReport(state="failed", error=str(error)))
        return 1
    say(ReplicaReport(state="loading"))
    uvloop.run(serve(spec, args, started))
    return 0


async def serve(spec: ReplicaSpec, args: Arguments, started: float) -> None:
    """Until SIGTERM."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    try:
        async with asyncio.timeout(args.start_s - (time.monotonic() - started)):
            await stopping.wait()
        return
    except TimeoutError:
        pass  # loaded
    if args.iteration is None or args.null:
        api = Api(spec, args, NullAnswers(spec.model.name, args).generate, Embeddings(spec, args).embed)
    else:
        core = BatchingCore(args.iteration, spec.model.slots, prefix_cache=args.prefix_cache and spec.cache_prompts)
        batch = LiveBatch(core)
        api = Api(spec, args, Simulation(spec, args, batch).generate, Embeddings(spec, args, batch).embed)
    limits = Limits(connections=max(Limits().connections, 2 * spec.model.slots))
    server = Server(api.handle, limits=limits, on_error=error_body)
    await server.listen(port=0)
    say(
        ReplicaReport(
            state="ready",
            url=f"http://127.0.0.1:{server.port}",
            load_s=round(time.monotonic() - started, 3),
            engine_version=f"simulated {__version__}",
        )
    )
    await stopping.wait()
    await server.close()


def say(report: ReplicaReport) -> None:
    sys.stdout.write(msgspec.json.encode(report).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
