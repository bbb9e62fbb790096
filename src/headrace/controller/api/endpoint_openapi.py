"""How to call one endpoint, as an OpenAPI document: what Databricks' ``get_open_api`` answers."""

from __future__ import annotations

from typing import Any

from headrace.controller.api.errors import ErrorBody
from headrace.controller.endpoint import Endpoint
from headrace.controller.keys import ALL_TIERS

LONGEST_ID = 256
"""Characters of what the gateway keeps of a request for its ledger."""
STATUSES = {
    "400": "what can never be served, such as more tokens than the context holds; the message says what can",
    "401": "no key, one that is unknown or revoked, or a token that has expired",
    "403": "a key that may not do this, or a rate limit of 0",
    "404": "no such endpoint",
    "408": "the body did not come in time",
    "413": "the body is too large",
    "429": "no room before the deadline; retry-after says when to come back",
    "502": "the engine failed",
    "503": "no replica before the deadline",
    "504": "the engine was too slow",
}

QUESTION = "Why do mills have a headrace?"
EXAMPLES = {
    "chat": {
        "summary": "A chat, streamed",
        "value": {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 64, "stream": True},
    },
    "completion": {"summary": "A completion", "value": {"prompt": "A headrace is", "max_tokens": 64, "user": "ann"}},
    "embeddings": {
        "summary": "Embeddings, of a model whose engine makes them",
        "value": {"input": [QUESTION, "A headrace is a channel."]},
    },
}


def document(endpoint: Endpoint) -> dict[str, Any]:
    """Of the config that serves now."""
    return {
        "openapi": "3.1.0",
        "info": {"title": endpoint.name, "version": str(endpoint.current.version), "description": _about(endpoint)},
        "security": [{"key": []}],
        "paths": {f"/serving-endpoints/{endpoint.name}/invocations": {"post": _invocations()}},
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**_schemas(endpoint), **_errors()},
        },
    }


def _errors() -> dict[str, Any]:
    schema = ErrorBody.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
    return {**schema.pop("$defs"), "Error": schema}


def _about(endpoint: Endpoint) -> str:
    told = [
        f"{entity.name} ({entity.model.name}, version {entity.model.version}): {entity.traffic}% of the requests, "
        f"{entity.model.context} tokens of context, {entity.min_chunks * entity.chunk} to "
        f"{entity.max_chunks * entity.chunk} reference tokens/s"
        for entity in endpoint.current.entities
    ]
    return "\n".join([*([endpoint.description] if endpoint.description else []), *told])


def _invocations() -> dict[str, Any]:
    kinds = ("Chat", "Completion", "Embedding")
    return {
        "summary": "A chat by messages, a completion by prompt, or embeddings by input",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [_ref(f"{kind}Request") for kind in kinds]},
                    "examples": EXAMPLES,
                }
            },
        },
        "responses": {
            "200": {
                "description": "the engine's answer, in OpenAI's form; server-sent events where stream is true",
                "content": {
                    "application/json": {"schema": {"type": "object"}},
                    "text/event-stream": {"schema": {"description": "Events in OpenAI's form, then [DONE]."}},
                },
            },
            **{
                status: {"description": said, "content": {"application/json": {"schema": _ref("Error")}}}
                for status, said in STATUSES.items()
            },
        },
    }


def _schemas(endpoint: Endpoint) -> dict[str, Any]:
    """Only the fields that Headrace reads; the engine gets all others as they were sent."""
    context = max(entity.model.context for entity in endpoint.current.entities)
    tokens = {"type": ["integer", "null"], "minimum": 1, "maximum": context - 1}
    one = {"type": ["integer", "null"], "minimum": 1, "maximum": 1}
    identity = {"type": ["string", "null"], "maxLength": LONGEST_ID}
    of_all = {
        "model": {"type": ["string", "null"]},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": ["boolean", "null"]}},
        },
        "n": one,
        "best_of": one,
        "service_tier": {"enum": ["auto", *ALL_TIERS, None]},
        "user": identity,
        "client_request_id": identity,
        "usage_context": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
    }
    generates = {"max_tokens": tokens, "max_completion_tokens": tokens, **of_all}
    message = {"type": "object", "required": ["role"], "properties": {"role": {"type": "string"}}}
    token_ids = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
    prompt = {"anyOf": [{"type": "string"}, token_ids]}
    text = {"anyOf": [{"type": "string", "minLength": 1}, token_ids]}
    return {
        "ChatRequest": _object("messages", {"type": "array", "minItems": 1, "items": message}, generates),
        "CompletionRequest": _object("prompt", {"anyOf": [prompt, _list_of(prompt, most=1)]}, generates),
        "EmbeddingRequest": _object("input", {"anyOf": [text, _list_of(text)]}, of_all),
    }


def _list_of(schema: dict[str, Any], *, most: int | None = None) -> dict[str, Any]:
    told = {"type": "array", "minItems": 1, "items": schema}
    return told if most is None else told | {"maxItems": most}


def _object(field: str, schema: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [field], "properties": {field: schema, **others}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
