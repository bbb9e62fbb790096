"""How a profile reads, alike in every command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from headrace.cli.output import console, number, print_table

if TYPE_CHECKING:
    from headrace.engines.base import ModelSettings
    from headrace.policy.work import Weights
    from headrace.profiles.profile import Intervals, IterationTime, Profile, Range, ShapeResult


def profile_label(status: str, *, simulated: bool, measuring: bool = False) -> str:
    """Such as ``quick, simulated``: figures of the simulated engine must not pass for a model's."""
    words = (status, "simulated" if simulated else "", "measuring" if measuring else "")
    return ", ".join(word for word in words if word)


def work_formula(weights: Weights) -> str:
    """The work of a request in reference tokens."""
    return (
        f"{weights.w_in:.4g} new + {weights.w_out:.4g} out + {weights.w_pp:.3g} new (cached + new/2) "
        f"+ {weights.w_dd:.3g} out (in + out/2) + {weights.w_c:.3g} cached   (reference tokens; 2048/256 weighs 2304)"
    )


def doubts_of(profile: Profile | None, model: ModelSettings, engine_version: str | None) -> list[str]:
    """Why the figures of a model's profile may not hold here; nothing is doubted of one that is not there."""
    from headrace.profiles.hardware import this_machine  # noqa: PLC0415
    from headrace.profiles.validity import doubts  # noqa: PLC0415

    if profile is None:
        return []
    return doubts(profile, model, here=this_machine(), engine_version=engine_version)


def print_profile(profile: Profile) -> None:
    """All of it, for people."""
    out = console()
    half = (profile.chunk_high - profile.chunk_low) / 2 / profile.chunk_mean
    engine = "" if profile.simulated else f"{profile.engine_version or profile.engine}, "
    status = f"{profile.status}, doubtful" if profile.problems else profile.status
    label = profile_label(status, simulated=profile.simulated)
    out.print(f"{profile.model} ({engine}{label}): chunk [bold]{profile.chunk:,}[/bold] reference tokens/s")
    out.print(
        f"mean {profile.chunk_mean:,.1f}, 95% interval {profile.chunk_low:,.1f} to {profile.chunk_high:,.1f} "
        f"(±{half:.1%}); {profile.replicas_loaded} replicas loaded, {profile.slots} in flight on each, "
        f"{profile.duration_s:.0f} s"
    )
    if profile.operating_points:
        _print_operating_points(profile)
    held_out = profile.held_out_shapes or ((profile.held_out,) if profile.held_out else ())
    if any(shape.requests for shape in profile.shapes):
        print_table(
            ["input/output tokens", ">cached", ">requests", ">measured (s)", ">predicted (s)", ">error", ""],
            [_shape(shape, "") for shape in profile.shapes] + [_shape(shape, "not fitted to") for shape in held_out],
        )
    else:
        rows = [(f"{shape.input_tokens}/{shape.output_tokens}", f"{shape.predicted_s:.3f}") for shape in profile.shapes]
        print_table(["input/output tokens", ">computed (s)"], rows)
    out.print(f"work = {work_formula(profile.weights)}")
    figure = ">measured" if profile.measured_at else ">assumed"
    print_table(["", figure, ">95% interval", ""], _figures(profile))
    for lack in profile.cut_short:
        out.print(f"[yellow]There was {lack}: give it more --minutes.[/yellow]")
    out.print(f"{profile.method}; id {profile.id}, {profile.measured_at or 'shipped'}", markup=False)


def _print_operating_points(profile: Profile) -> None:
    print_table(
        [
            ">in flight",
            ">tokens/s a replica",
            ">±",
            ">latency (s)",
            ">TTFT (s)",
            ">TPOT (ms)",
            ">throughput / latency",
            "",
        ],
        [
            [
                point.slots,
                number(point.tokens_per_s, 1),
                _half(point.tokens_per_s_range, point.tokens_per_s),
                number(point.latency_s, 2),
                number(point.ttft_s, 2),
                number(None if point.tpot_s is None else point.tpot_s * 1000, 1),
                number(point.merit, 2),
                "" if point.meets_target is None else "meets the target" if point.meets_target else "too slow",
            ]
            for point in profile.operating_points
        ],
    )


def _figures(profile: Profile) -> list[list[object]]:
    """Rows of name, value, interval and a word on it."""
    known = profile.intervals
    rows = _weights(profile.weights, None if known is None else known.weights, profile)
    if profile.slots and known is not None and known.slots is not None:
        rows.append(["slots", profile.slots, f"{known.slots[0]} to {known.slots[1]}", ""])
    if profile.iteration is not None:
        error = (
            "" if profile.iteration_error is None else f"off by {profile.iteration_error:.1%} at most, not fitted to"
        )
        rows += _iteration(profile.iteration, known, error)
    if profile.start_s is not None:
        starts = ", ".join(f"{start:.2f}" for start in profile.starts_s)
        rows.append(
            [
                "start (s)",
                f"{profile.start_s:.2f}",
                _ends(None if known is None else known.start_s, 2),
                f"longest of {starts}",
            ]
        )
    if profile.memory_bytes is not None:
        mib = (
            None if known is None or known.memory_bytes is None else tuple(size / 2**20 for size in known.memory_bytes)
        )
        rows.append(["memory (MiB)", number(profile.memory_bytes / 2**20), _ends(mib, 0), "most of any replica"])
    return rows


def _weights(weights: Weights, ends: tuple[Weights, Weights] | None, profile: Profile) -> list[list[object]]:
    cached = {"measured": "", "assumed": ": assumed, not measured"}.get(profile.cached_tokens or "", ": not measured")
    words = {"w_in": "per new token", "w_out": "per output token", "w_c": f"per cached token{cached}"}
    rows: list[list[object]] = []
    for name in ("w_in", "w_out", "w_pp", "w_dd", "w_c"):
        interval = "" if ends is None else f"{getattr(ends[0], name):.3g} to {getattr(ends[1], name):.3g}"
        rows.append([name, f"{getattr(weights, name):.4g}", interval, words.get(name, "")])
    return rows


def _iteration(model: IterationTime, known: Intervals | None, error: str) -> list[list[object]]:
    rows: list[list[object]] = []
    ends = None if known is None else known.iteration
    for name, words in (
        ("base_s", "an iteration"),
        ("prefill_s", "a prompt token"),
        ("decode_s", "a decoding sequence"),
        ("context_s", "a context token"),
        ("attention_s", "a prompt token and one before it"),
    ):
        interval = "" if ends is None else f"{getattr(ends[0], name) * 1e6:.4g} to {getattr(ends[1], name) * 1e6:.4g}"
        rows.append([f"µs for {words}", f"{getattr(model, name) * 1e6:.4g}", interval, ""])
    rows.append(["prefill budget (tokens)", model.prefill_budget, "", error])
    return rows


def _ends(ends: Range | tuple[float, ...] | None, digits: int) -> str:
    return "" if not ends else f"{ends[0]:,.{digits}f} to {ends[1]:,.{digits}f}"


def _half(ends: Range | None, of: float) -> str:
    return "" if ends is None else f"{(ends[1] - ends[0]) / 2 / of:.1%}"


def _shape(shape: ShapeResult, note: str) -> list[object]:
    return [
        f"{shape.input_tokens}/{shape.output_tokens}",
        shape.cached_tokens or "",
        shape.requests,
        f"{shape.seconds:.3f}",
        f"{shape.predicted_s:.3f}",
        f"{shape.predicted_s / shape.seconds - 1:+.1%}",
        note,
    ]
