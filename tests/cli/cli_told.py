"""An endpoint as Headrace's own API tells of it."""

from __future__ import annotations

from typing import Any

PATH = "/api/headrace/v1/endpoints/chat"
PERMISSIONS_PATH = "/api/2.0/permissions/serving-endpoints/e1"
DATABRICKS_PATH = "/api/2.0/serving-endpoints/chat"
NOTED: dict[str, Any] = {"name": "chat", "headrace": {"notes": ["sim-1: a fixed size"]}}
"""The little that commands read of Databricks' view of it."""


def entity(**more: Any) -> dict[str, Any]:
    return {
        "name": "sim-1",
        "traffic": 100,
        "state": "ready",
        "model": "sim",
        "model_version": "1",
        "engine": "simulated",
        "simulated": True,
        "context": 4096,
        "slots": 4,
        "chunk": 1200,
        "min_chunks": 1,
        "max_chunks": 2,
        "min_tokens_s": 1200,
        "max_tokens_s": 2400,
        "scale_to_zero": False,
        "weights": {"w_in": 1.0, "w_out": 1.5, "w_pp": 0.0, "w_dd": 0.0, "w_c": 0.0},
        "profile_id": "sim-20261122",
        "profile_status": "quick",
        "chunks_wanted": 1,
        "chunks_ready": 1,
        "chunks_loading": 0,
        "chunks_draining": 0,
        "chunks_in_use": 1,
        "chunks_billed": 1,
        "scaling_reason": "demand 300 fits 1 chunk",
        "scaling_standing": "steady",
        "scaling_until_ms": None,
        "knobs": {
            "fast_window_s": 12.5,
            "slow_window_s": 120.0,
            "headroom": 0.1,
            "down_window_s": 60.0,
            "wait_target_s": 10.0,
            "idle_to_zero_s": 300.0,
        },
    } | more


def endpoint(**more: Any) -> dict[str, Any]:
    return {
        "id": "e1",
        "name": "chat",
        "state": "ready",
        "problems": [],
        "config_update": "NOT_UPDATING",
        "update_message": "",
        "config_version": 3,
        "pending_version": None,
        "measuring": False,
        "options": {"overload": "queue", "fallback": False, "rate_limits": []},
        "chunks_loading": 0,
        "start_s": None,
        "entities": [entity()],
        "replicas": [
            {
                "id": "r1",
                "entity": "sim-1",
                "state": "ready",
                "cpus": [2, 3],
                "slots": 4,
                "in_flight": 1,
                "config_version": 3,
                "created_ms": 0,
                "ready_ms": 1000,
                "draining_ms": None,
                "drain_cause": None,
                "message": "",
            }
        ],
    } | more
