"""Puts everything about one answer into JSON, for `phiplug run --json`."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from phiplug.cli.logprobs import logprob_as_json

if TYPE_CHECKING:
    from phiplug.llm import LLM
    from phiplug.types import Completion, Request


def _said(completion: Completion) -> dict[str, Any]:  # Any: what JSON holds
    """Return what an answer consists of, and whether it has its form."""
    grammar: dict[str, Any] = {"constraint": completion.constraint} if completion.constraint else {}  # Any: as above
    if completion.constraint or completion.tool_calls:
        grammar["forced_tokens"] = completion.usage.forced_tokens
    return grammar | {
        "text": completion.text,
        "reasoning": completion.reasoning,
        "tool_calls": [call.as_dict() for call in completion.tool_calls],
    }


def report(llm: LLM, request: Request, completion: Completion) -> dict[str, Any]:  # Any: what JSON holds
    """Return everything about one answer, for --json."""
    from phiplug.load import cache
    from phiplug.models.hub import checksum_of
    from phiplug.transcript import biases_as_json

    info, timings = llm.info, completion.timings
    path = llm.files.path
    asked = request.logprobs is not None
    logprobs = {"logprobs": list(map(logprob_as_json, completion.logprobs))} if asked else {}
    return (
        logprobs
        | _said(completion)
        | {
            "tokens": completion.tokens,
            "prompt_tokens": completion.usage.prompt_tokens,
            "prompt_ids": completion.prompt_ids,
            "finish_reason": completion.finish_reason,
            "backend": llm.backend,
            "device": info.device,
            "threads": info.threads,
            "guesses": {how: getattr(completion.usage, f"guesses_{how}") for how in ("asked", "right", "wrong")},
            "model": {
                "reference": llm.files.reference,
                "path": str(path),
                "sha256": checksum_of(llm.files, cache()),
                "quantization": info.quantization,
                "metadata": dict(info.metadata),
            },
            "sampling": {field.name: getattr(completion.sampling, field.name) for field in fields(completion.sampling)}
            | {"logit_bias": biases_as_json(completion.sampling.logit_bias)},
            "timings": {
                "load_s": llm.load_s,
                "ttft_s": timings.ttft_s,
                "prefill_tps": timings.prefill_tps,
                "decode_tps": timings.decode_tps,
            },
        }
    )
