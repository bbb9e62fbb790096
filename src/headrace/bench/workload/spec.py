"""What a load consists of, as values: they go from the command line to every process of a run, and into its result."""

from __future__ import annotations

from typing import Literal

import msgspec

REFERENCE_INPUT = 2048
REFERENCE_OUTPUT = 256


class Normal(msgspec.Struct, frozen=True, tag="normal"):
    """Rounded, and drawn again outside ``[low, high]`` tokens."""

    mean: float
    sd: float
    low: int = 1
    high: int = 1 << 20


class Uniform(msgspec.Struct, frozen=True, tag="uniform"):
    """Both ends included; equal ends are a fixed length."""

    low: int
    high: int


class LogNormal(msgspec.Struct, frozen=True, tag="lognormal"):
    """By its median and the standard deviation of its logarithm; rounded, and drawn again outside ``[low, high]``."""

    median: float
    sigma: float
    low: int = 1
    high: int = 1 << 20


Lengths = Normal | Uniform | LogNormal


class Synthetic(msgspec.Struct, frozen=True, kw_only=True, tag="synthetic"):
    """Prompts made here, of lengths drawn independently."""

    input: Lengths = Uniform(REFERENCE_INPUT, REFERENCE_INPUT)
    output: Lengths = Uniform(REFERENCE_OUTPUT, REFERENCE_OUTPUT)


DatasetFormat = Literal["chat", "sharegpt", "prompts", "lengths", "azure", "mooncake", "burstgpt"]


class Dataset(msgspec.Struct, frozen=True, kw_only=True, tag="dataset"):
    """Requests of a file: texts, or lengths that prompts are made to (with arrival times in traces)."""

    path: str
    format: DatasetFormat | None = None
    """None: recognised by its content."""
    output_tokens: int | None = None
    """Of requests that do not say their own."""
    shuffle: bool = False
    """Requests in a seeded random order, and anew each time round; but not of a trace that is replayed."""


class Prose(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the model's tokens in prose made here: ``n`` words are ``fixed + per_word * n`` input tokens."""

    origin: str
    """Where it is known from, in words."""
    counts: Literal["exact", "close", "guess"]
    """Every prompt comes out as said; on average they do; or what the server adds (a chat's template) is not known."""
    fixed: float = 0.0
    """Tokens around the words: a start token, the template of a chat."""
    per_word: float = 1.0
    left_out: tuple[str, ...] = ()
    """Words that are not one token."""
    bytes_per_token: float | None = None
    """Of texts of a dataset."""


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """How bodies are made of lengths or texts."""

    api: Literal["completions", "chat"] = "completions"
    """For prompts made here, and plain prompts of a dataset; datasets of chats are always sent as chats."""
    prompt: Literal["ids", "text"] = "ids"
    """Token ids (exact on any server that takes them), or prose (for servers that take text alone; all chats)."""
    tokenizer: str | None = None
    """File of a tokenizer (tokenizer.json) that makes prose exact; None: the server's own tokenize route or, failing
    that, its usage."""
    prose: Prose | None = None
    """As ``fit`` found it; None: nothing is known, and a word is taken for a token."""
    vocabulary: tuple[int, int] = (1000, 20000)
    """Token ids from here up to below there are plain text."""
    reuse: bool = False
    """Leave prompts as they are, so that a prefix cache may help; else each starts with a head of its own."""
    salt: int = 0
    """Goes into the heads and changes nothing else: with a new one, a server that has seen the same seed before (at
    another rate, say) finds nothing of it in its cache."""
    stream: bool = True
    force_length: bool = True
    """Ask for exactly the output length (``ignore_eos``, ``max_tokens``); else it is only the limit."""
    path: str | None = None
    """Where every request goes, in place of the API's own path, such as ``/serving-endpoints/NAME/invocations``."""
    extra: dict[str, object] = msgspec.field(default_factory=dict)
    """More fields of every body."""


class ClosedLoop(msgspec.Struct, frozen=True, kw_only=True, tag="closed"):
    """Users who each send the next request when the last is answered; they start evenly over ``ramp_s``."""

    users: int
    ramp_s: float = 0.0


class Constant(msgspec.Struct, frozen=True, tag="constant"):
    """Evenly spaced."""

    rate: float
    """Requests/s, as in all below."""


class Poisson(msgspec.Struct, frozen=True, tag="poisson"):
    rate: float


class Gamma(msgspec.Struct, frozen=True, tag="gamma"):
    """Gaps of a gamma distribution with this coefficient of variation: 1 is Poisson, above it bursts."""

    rate: float
    cv: float


class Replay(msgspec.Struct, frozen=True, kw_only=True, tag="replay"):
    """Arrival times of the dataset, which must be a trace. The first is due at 0."""

    time_scale: float = 1.0
    """2 plays it at half the speed."""
    rate: float | None = None
    """In place of ``time_scale``: scaled so that the mean rate is this."""


class Stage(msgspec.Struct, frozen=True):
    """Poisson arrivals, whose rate goes linearly from one figure to the other."""

    seconds: float
    from_rate: float
    to_rate: float


class Stages(msgspec.Struct, frozen=True, tag="stages"):
    stages: tuple[Stage, ...]


OpenLoop = Constant | Poisson | Gamma | Replay | Stages
Arrivals = ClosedLoop | OpenLoop


MOST_TURNS = 64
"""Of a session; what a chat has more is not said."""


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Each chat of the dataset is a session: its turns are sent one after the other, each some time after the answer to
    the one before, with the answers that the model gave. Arrivals and amounts are of sessions."""

    think_s: float
    """Mean time between an answer and the next turn, exponential."""


class Amount(msgspec.Struct, frozen=True, kw_only=True):
    """How much is measured: the tighter limit ends it."""

    requests: int | None = None
    duration_s: float | None = None


class LoadSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that says which requests are sent when."""

    model: str
    """Sent as ``model``."""
    source: Synthetic | Dataset = Synthetic()
    content: Content = Content()
    arrivals: Arrivals
    amount: Amount
    seed: int = 0
    sessions: Sessions | None = None
    """None: every request stands for itself."""
