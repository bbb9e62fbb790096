"""``engine_args`` of a simulated model."""

from __future__ import annotations

import msgspec

from headrace.engines.base import EngineError, ModelSettings
from headrace.profiles.profile import IterationTime


class Arguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    iteration: IterationTime | None = None
    """Timing; needed unless ``null``."""
    start_s: float = 0.0
    """Seconds from the start of the process to ready, at least."""
    null: bool = False
    """Every generation is answered with the same text, without a thought about timing."""
    null_events: int = 16
    """Tokens, and so events with text in a stream, of a null answer to a request that sets no limit."""
    null_interval_ms: float = 0.0
    """Between the events of a null stream, each a write of its own; 0: the whole stream is one write."""
    vocabulary: int = 32768
    """Token ids of prompts are below this."""
    prefix_cache: bool = False
    """A slot keeps the prompt that it saw last; the prefix shared with the next one is not processed again."""


def arguments(model: ModelSettings) -> Arguments:
    """Raises EngineError where they are not what this engine takes."""
    try:
        args = msgspec.convert(model.engine_args, Arguments)
    except msgspec.ValidationError as error:
        raise EngineError(f"engine_args of the simulated model {model.name!r}: {error}") from None
    if args.iteration is None and not args.null:
        raise EngineError(
            f"the simulated model {model.name!r} has no timing: set engine_args.iteration "
            '{"base_s", "prefill_s", "decode_s", "context_s", "prefill_budget"} or engine_args.null'
        )
    if args.iteration is not None:
        parts = args.iteration
        if min(parts.base_s, parts.prefill_s, parts.decode_s, parts.context_s) < 0 or parts.seconds(1, 1, 0) <= 0:
            raise EngineError(f"engine_args.iteration of {model.name!r} must give a positive duration, in seconds")
        if parts.prefill_budget <= model.slots:
            raise EngineError(
                f"engine_args.iteration.prefill_budget of {model.name!r} is {parts.prefill_budget} tokens, shared by "
                f"decodes and prompts: it must exceed the {model.slots} slots"
            )
    if min(args.start_s, args.null_interval_ms) < 0 or args.null_events < 1 or args.vocabulary < 1:
        raise EngineError(
            f"engine_args of {model.name!r}: start_s >= 0, null_events >= 1, null_interval_ms >= 0 and vocabulary >= 1"
        )
    return args
