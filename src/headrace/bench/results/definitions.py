"""What each figure means, in the words that are printed beside it."""

from __future__ import annotations

DEFINITIONS = {
    "steady": "from the end of the warm-up (MSER-5) to the end of the load; drain is outside; of a resumed run, of "
    "each segment",
    "whole": "the whole load, from the start to its end, warm-up included; drain is outside; of a resumed run, "
    "of all segments",
    "requests": "measured requests that were due in the span",
    "ok": "complete answers",
    "rejected": "answered 429: a limit, not a failure of capacity",
    "unavailable": "answered 503",
    "failed": "another status, a broken stream, a lost connection, or an answer that is none",
    "timed_out": "no complete answer within the client's time-out",
    "unfinished": "cut off by the end of the run",
    "offered_per_s": "requests due in the span over its length",
    "completed_per_s": "complete answers that ended in the span over its length",
    "goodput_per_s": "good answers (see attainment) that ended in the span over its length",
    "in_flight": "mean number of requests between sending and end of answer, over time",
    "tokens_input": "input tokens/s as the server counts them, cached ones included, over time: a request's count "
    "evenly from its sending to its first token (to its end where it was no stream)",
    "tokens_output": "output tokens/s over time: each token when its event arrived",
    "tokens_input_output": "input and output tokens/s together",
    "tokens_reference": "work/s over time: each request weighed by the work weights (2048 in and 256 out weigh 2304), "
    "its input's share from sending to first token, its output's from first to last token",
    "ttft_scheduled": "from when the request was due (sent late or not) to its first token",
    "ttft_sent": "from the request's first byte sent to its first token",
    "tpot": "of one answer: (last token - first token) / tokens after the first event",
    "itl_event": "from one event that carries tokens to the next in the same answer",
    "itl_token": "the same, divided by the tokens of the later event, and counted once for each of them",
    "several_token_events": "the part of events that carry more than one token",
    "guessed_events": "the part of events whose tokens were not told: the answer's usage spread evenly over its events",
    "e2e_scheduled": "from when the request was due (sent late or not) to the end of its answer",
    "e2e_sent": "from the request's first byte sent to the end of its answer",
    "lag": "by how much later than due requests were sent: the client's own share",
    "percentile": "of complete answers to measured requests due in the span: the smallest value that this part of them "
    "does not exceed; [95% interval] by order statistics (exact, any distribution, requests taken as independent), "
    "none where there are too few values",
    "attainment": "good requests over all measured ones but 429s; good is complete and within every limit, timed from "
    "when it was due (an answer that was no stream shows its first token at its end); failed and timed-out are not "
    "good; [95% interval] exact binomial, requests taken as independent",
    "attainment_with_rejected": "the same over all measured requests, 429s as not good",
    "notebook": "the figure of Databricks' benchmark notebook: (mean input + mean output tokens) x users / median "
    "latency; it is not tokens over time: it takes every answer as long as the median one and every user as always "
    "waiting, and so tells more than was delivered when latencies are skewed or users idle",
}
"""In a closed loop a request is due when its user is free, so the figures from ``scheduled`` and ``sent`` agree."""
