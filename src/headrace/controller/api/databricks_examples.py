"""Bodies for the OpenAPI document: what a caller may copy, and then changes names and numbers of.

A chunk of 100 reference tokens/s stands for that of the model, which ``get-model-optimization-info`` tells.
"""

from __future__ import annotations

from typing import Any

from fastapi.openapi.models import Example

Examples = dict[str, Example]

MODEL = "smollm2-135m-instruct"


def _entity(name: str | None = None, *, low: int, high: int, **more: Any) -> dict[str, Any]:
    named = {} if name is None else {"name": name}
    model = {"entity_name": MODEL, "entity_version": "1"}
    return {**named, **model, "min_provisioned_throughput": low, "max_provisioned_throughput": high, **more}


def _traffic(**parts: int) -> dict[str, Any]:
    return {"routes": [{"served_entity_name": name, "traffic_percentage": part} for name, part in parts.items()]}


_TWO = {
    "served_entities": [_entity("now", low=100, high=200), _entity("next", low=100, high=100)],
    "traffic_config": _traffic(now=90, next=10),
}
_ASLEEP = {"served_entities": [_entity(low=0, high=100, scale_to_zero_enabled=True)]}
_UNITS = {"served_entities": [{"entity_name": MODEL, "entity_version": "1", "provisioned_model_units": 50}]}
_MORE_UNITS = {"served_entities": [{"entity_name": MODEL, "entity_version": "1", "provisioned_model_units": 100}]}

CREATE: Examples = {
    "range": {
        "summary": "One to two chunks of a model",
        "value": {"name": "assistant", "config": {"served_entities": [_entity(low=100, high=200)]}},
    },
    "scale_to_zero": {
        "summary": "Nothing runs, and nothing is paid, while nobody asks",
        "value": {"name": "assistant", "config": _ASLEEP},
    },
    "two_served_entities": {
        "summary": "A tenth of the requests goes to a second served entity, and so does what finds the first full",
        "value": {
            "name": "assistant",
            "description": "For the help desk",
            "tags": [{"key": "team", "value": "help-desk"}],
            "config": _TWO,
            "ai_gateway": {"rate_limits": [{"calls": 60, "key": "user", "renewal_period": "minute"}]},
            "headrace": {"overload": "spill", "queue_deadline_s": 10},
        },
    },
}
UPDATE: Examples = {
    "range": {
        "summary": "Another range of the same model: nothing is restarted",
        "value": {"served_entities": [_entity(low=100, high=300)]},
    },
    "two_served_entities": {"summary": "A second served entity gets a tenth of the requests", "value": _TWO},
}
CREATE_PT: Examples = {
    "model_units": {"summary": "A fixed size in model units", "value": {"name": "assistant", "config": _UNITS}},
}
UPDATE_PT: Examples = {
    "model_units": {"summary": "Twice as much", "value": {"config": _MORE_UNITS}},
}
