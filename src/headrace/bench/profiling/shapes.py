"""Which requests a profile is measured on."""

from __future__ import annotations

from dataclasses import dataclass

from headrace.policy.work import REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS


@dataclass(frozen=True, slots=True, order=True)
class Shape:
    """Lengths of a request, in tokens."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    """The first so many input tokens are those of the request before it."""

    def __str__(self) -> str:
        cached = f" ({self.cached_tokens} cached)" if self.cached_tokens else ""
        return f"{self.input_tokens}/{self.output_tokens}{cached}"

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def new_tokens(self) -> int:
        return self.input_tokens - self.cached_tokens


@dataclass(frozen=True, slots=True, order=True)
class Case:
    """A shape with a number of requests in flight."""

    shape: Shape
    in_flight: int

    def __str__(self) -> str:
        return f"{self.shape} x{self.in_flight}"


REFERENCE = Shape(REFERENCE_INPUT_TOKENS, REFERENCE_OUTPUT_TOKENS)

LONG = Shape(3072, 192)
HELD_OUT = (Shape(1024, 128), Shape(128, 64))
"""Never fitted to."""


@dataclass(frozen=True, slots=True)
class Menu:
    """The cases of one profile."""

    fitted: tuple[Shape, ...]
    """To which the work weights are fitted, at the operating point; the reference is among them. Their inputs are at
    most 24 times their outputs: see ``profiles.fit``."""
    cached: Shape | None
    """One with cached tokens, which the weights are fitted to as well; None where the engine keeps or tells none."""
    held_out: tuple[Shape, ...]
    """What weights and iteration-time model must predict."""
    iterations: tuple[Case, ...]
    """Only for the iteration-time model: prompts with hardly an answer, answers with hardly a prompt."""

    def cases(self, slots: int) -> tuple[Case, ...]:
        """All of them, with ``slots`` in flight at the operating point."""
        at_point = (*self.fitted, *((self.cached,) if self.cached else ()), *self.held_out)
        return tuple(dict.fromkeys([*(Case(shape, slots) for shape in at_point), *self.iterations]))


def full_menu(*, slots: int, context: int, caches: bool) -> Menu:
    """``slots``: k. ``context``: tokens per slot, which bounds the long shape."""
    fitted = [REFERENCE, Shape(1536, 64), Shape(512, 64), Shape(128, 256), Shape(256, 32)]
    if context >= LONG.tokens:
        fitted.append(LONG)
    elif context > REFERENCE.tokens + REFERENCE.output_tokens:
        fitted.append(Shape(context - LONG.output_tokens, LONG.output_tokens))
    return Menu(
        fitted=tuple(fitted),
        cached=Shape(1792, 64, cached_tokens=1536) if caches else None,
        held_out=HELD_OUT,
        iterations=_iterations(slots, prompts=(320, 768), answers=Shape(16, 128)),
    )


def quick_menu(*, slots: int, caches: bool) -> Menu:
    """The parts of the full one that tell most, in a quarter of the time."""
    return Menu(
        fitted=(REFERENCE, Shape(768, 32), Shape(128, 192), Shape(256, 32)),
        cached=Shape(576, 32, cached_tokens=512) if caches else None,
        held_out=(Shape(640, 96),),
        iterations=_iterations(slots, prompts=(320,), answers=Shape(16, 48)),
    )


def _iterations(slots: int, *, prompts: tuple[int, ...], answers: Shape) -> tuple[Case, ...]:
    """One in flight, k, and between them."""
    in_flight = sorted({1, slots, round(slots**0.5)})
    return (
        *(Case(Shape(tokens, 1), 1) for tokens in prompts),
        *(Case(answers, many) for many in in_flight),
    )
