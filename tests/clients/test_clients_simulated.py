"""A simulated replica behind a gateway, as OpenAI's client sees both."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import msgspec
import pytest
from clients_rig import HELLO, openai_of
from gateway_rig import RAW, endpoint_view, rig

from headrace.engines.base import ModelSettings, ReplicaReport, ReplicaSpec
from headrace.engines.simulated.engine import SimulatedEngine
from headrace.fleet.process import spawn
from headrace.gateway.snapshot import ReplicaView
from headrace.journal.records import Reserved, Settled

SECRET = "replica-secret"


@pytest.fixture(scope="module")
def replica() -> Iterator[ReplicaView]:
    iteration = {"base_s": 0.0001, "prefill_s": 0.0, "decode_s": 0.0, "context_s": 0.0}
    model = ModelSettings(name="m", engine="simulated", slots=2, context=4096, engine_args={"iteration": iteration})
    spec = msgspec.json.encode(ReplicaSpec(replica="r1", model=model, secret=SECRET)).decode()
    process = spawn(SimulatedEngine().argv(model), stdin=spec, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    url = None
    while url is None:
        url = msgspec.json.decode(process.stdout.readline(), type=ReplicaReport).url
    yield ReplicaView(id="r1", entity="entity-of-smollm2", url=url, secret=SECRET, slots=2, draining=False, traits=RAW)
    process.terminate()
    process.wait(10)
    process.stdout.close()


async def test_embeddings_are_served_and_booked_to_the_token(replica: ReplicaView) -> None:
    async with rig() as r, openai_of(r) as client:
        await r.publish(replicas=[replica])
        got = await client.embeddings.create(model="smollm2", input=["hello", "hello", "you"], dimensions=8)
        assert got.data[0].embedding == got.data[1].embedding != got.data[2].embedding
        assert got.model == "simulated/m"
        reserved, settled = r.journal()
        assert isinstance(reserved, Reserved)
        assert isinstance(settled, Settled)
        assert (settled.input_tokens, settled.output_tokens, settled.exact) == (got.usage.prompt_tokens, 0, True)
        ids = await client.embeddings.create(model="smollm2", input=[[1, 2, 3], [4, 5]])
        reserved, settled = r.journal()[2:]
        assert isinstance(reserved, Reserved)
        assert isinstance(settled, Settled)
        assert reserved.work_reserved == settled.work == ids.usage.prompt_tokens == 5


async def test_a_long_list_of_vectors_and_a_chat_after_it_are_booked_apart(replica: ReplicaView) -> None:
    async with rig() as r, openai_of(r) as client:
        r.endpoint = endpoint_view(chunk=1e6)
        await r.publish(replicas=[replica])
        long = await client.embeddings.create(model="smollm2", input=["x" * 4000] * 40, dimensions=4096)
        assert long.usage.prompt_tokens == 40_000
        chat = await client.chat.completions.create(model="smollm2", messages=HELLO, max_tokens=3)
        assert chat.choices[0].message.content == " sim" * 3
        settled = [record for record in r.journal() if isinstance(record, Settled)]
        assert [(record.input_tokens, record.output_tokens) for record in settled] == [(40_000, 0), (6, 3)]
