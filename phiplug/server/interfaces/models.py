"""What is served and how it is doing: /v1/models, the tokenizers, /health and /metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.requests import Request as HttpRequest
from starlette.responses import JSONResponse, Response

from phiplug import checks
from phiplug.errors import InvalidParameter
from phiplug.forms.fields import Table, flag, honoured, text
from phiplug.forms.problems import Json, Refused
from phiplug.forms.tools import prompt_options
from phiplug.forms.turns import OPENAI_MESSAGE, TEMPLATE_KWARGS, messages
from phiplug.server.service import read, service_of
from phiplug.text.tokenizer import with_bos

if TYPE_CHECKING:
    from phiplug.server.catalog import ServedModel

_MODEL = honoured("model", "a name of /v1/models; the first one if it is left out", text)


def ids(path: str, value: Any) -> tuple[int, ...]:  # Any: what JSON holds
    """Check for token ids."""
    return checks.ids(path, value)


TOKENIZE_FIELDS = Table(
    honoured("prompt", "a text", text),
    honoured("messages", "a list of messages, instead of `prompt`", messages(OPENAI_MESSAGE)),
    TEMPLATE_KWARGS,
    _MODEL,
    honoured("add_special_tokens", "true, as if it is left out, begins a text as the model asks for it", flag),
    honoured("return_token_strs", "true gives the tokens' texts too", flag),
)
DETOKENIZE_FIELDS = Table(honoured("tokens", "a list of ids", ids, required=True), _MODEL)


async def list_models(http: HttpRequest) -> Response:
    """List the models."""
    found = [_described(model) for model in service_of(http).catalog.models.values()]
    return JSONResponse({"object": "list", "data": found})


async def show_model(http: HttpRequest) -> Response:
    """Describe one model; its name may have slashes."""
    return JSONResponse(_described(service_of(http).catalog.model(http.path_params["name"])))


def _described(model: ServedModel) -> Json:
    engine = model.engine(None)
    info = engine.info.model
    return {
        "id": model.name,
        "object": "model",
        "created": model.created,
        "owned_by": "phiplug",
        "context_length": info.context_length,
        "max_model_len": info.context_length,
        "backend": engine.info.backend,
        "device": info.device,
        "backends": {
            name: {"device": each.info.model.device, "threads": each.info.model.threads, "state": each.status.state}
            for name, each in model.engines.items()
        },
    }


async def tokenize(http: HttpRequest) -> Response:
    """Turn a text or a conversation into ids."""
    given = await read(http, TOKENIZE_FIELDS)
    model = service_of(http).catalog.model(given.get("model"))
    said = given.get("prompt")
    if (said is None) == (given.get("messages") is None):
        raise InvalidParameter("prompt", "give either it or messages")
    if said is None:
        found = list((await model.prepare(given["messages"], prompt_options(given)))[0])
    else:
        plain = model.tokenizer.encode(said)
        found = with_bos(plain, model.tokenizer) if given.get("add_special_tokens", True) else plain
    strings = [model.tokenizer.token_bytes(token).decode("utf-8", "replace") for token in found]
    return JSONResponse(
        {
            "count": len(found),
            "max_model_len": model.engine(None).info.model.context_length,
            "tokens": found,
            "token_strs": strings if given.get("return_token_strs") else None,
        }
    )


async def detokenize(http: HttpRequest) -> Response:
    """Turn ids into a text."""
    given = await read(http, DETOKENIZE_FIELDS)
    tokenizer = service_of(http).catalog.model(given.get("model")).tokenizer
    largest = max(given["tokens"], default=0)
    if largest >= tokenizer.vocab_size:
        raise Refused(400, "invalid_value", f"tokens: {largest} is outside the vocabulary", param="tokens")
    return JSONResponse({"prompt": b"".join(map(tokenizer.token_bytes, given["tokens"])).decode("utf-8", "replace")})


async def tokenizer_info(http: HttpRequest) -> Response:
    """Say what lm-evaluation-harness must know of a tokenizer: its special tokens and the chat template."""
    model = service_of(http).catalog.model(http.query_params.get("model"))
    special = {name: model.tokenizer.special_tokens.get(name) for name in ("bos_token", "eos_token", "pad_token")}
    template = None if model.template is None else model.template.source
    return JSONResponse({**special, "vocab_size": model.tokenizer.vocab_size, "chat_template": template})


async def health(http: HttpRequest) -> Response:
    """Say whether requests are answered; it is public, so it says nothing else."""
    service = service_of(http)
    if service.drain.has_begun:
        return JSONResponse({"status": "stopping"}, 503)
    states = {engine.status.state for model in service.catalog.models.values() for engine in model.engines.values()}
    if "down" in states:
        return JSONResponse({"status": "down"}, 503)
    return JSONResponse({"status": "ok" if states == {"ready"} else "restarting"})


async def metrics(http: HttpRequest) -> Response:
    """Return the numbers for Prometheus."""
    return Response(service_of(http).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
