"""Headrace's load client as the product runs it: a parent that looks at the records each half second, and one worker.

``python headrace_client.py`` reads a ``Plan`` and writes the records as arrays.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from answers import INPUT_TOKENS, MODEL
from plan import Plan

from headrace.bench.client.run import Run
from headrace.bench.client.spec import ClientSpec
from headrace.bench.workload.spec import Amount, ClosedLoop, Constant, Content, LoadSpec, Synthetic, Uniform

POLL_S = 0.5


def specification(plan: Plan) -> ClientSpec:
    load = plan.load
    arrivals = ClosedLoop(users=load.users) if load.users is not None else Constant(load.rate or 0.0)
    amount = Amount(duration_s=load.seconds)
    output = load.answers.tokens
    source = Synthetic(input=Uniform(INPUT_TOKENS, INPUT_TOKENS), output=Uniform(output, output))
    content = Content(api="chat", prompt="text")
    return ClientSpec(
        load=LoadSpec(model=MODEL, source=source, content=content, arrivals=arrivals, amount=amount),
        url=f"http://127.0.0.1:{plan.port}",
    )


async def main() -> None:
    plan = msgspec.json.decode(sys.stdin.buffer.read(), type=Plan)
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        run = Run(specification(plan), Path(folder))
        await run.start()
        finishing = asyncio.create_task(run.finish())
        while not finishing.done():
            await asyncio.wait([finishing], timeout=POLL_S)
            run.poll()
        records = finishing.result()
    np.savez(
        plan.file,
        requests=records.requests,
        planned_s=np.array(records.planned_s or ()),
        zero=run.zero,
        errors=np.array(records.errors, np.str_),
    )


if __name__ == "__main__":
    asyncio.run(main())
