"""A server over the toy model, asked in this process; and ASGI by hand, where a client is to go or not to read."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager

import httpx

from phiplug.engine import Engine
from phiplug.server.app import make_app
from phiplug.server.catalog import Catalog, ServedModel
from phiplug.server.local import LocalEngine
from phiplug.server.service import Settings
from phiplug.spi import LoadOptions, ModelFiles
from phiplug.text.prompt import PromptEncoder
from phiplug.text.template import ChatTemplate
from phiplug_toy import CHAT_TEMPLATE, CORPUS
from phiplug_toy.model import load
from phiplug_toy.tokenizer import ByteTokenizer

SAY_HI = [{"role": "user", "content": "Say hi."}]


def served_model(name="toy", *, ctx_size=512, slots=4, backends=("toy",), template=CHAT_TEMPLATE):
    tokenizer, template = ByteTokenizer(), ChatTemplate(template)
    options = LoadOptions(ctx_size=ctx_size, slots=slots)
    engines = {
        backend: LocalEngine(Engine(load(ModelFiles("toy", CORPUS, "toy"), options), tokenizer), backend)
        for backend in backends
    }
    return ServedModel(name, PromptEncoder(template, tokenizer, name), tokenizer, template, engines, 1)


def make(*models, **settings):
    return make_app(Catalog(models or [served_model()]), Settings(**settings))


@asynccontextmanager
async def client_of(app):
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8080") as client:
        try:
            yield client
        finally:
            await app.state.service.catalog.close()


def ask(app, method, path, body=None, **options):
    """Send one request and return the answer."""

    async def scenario():
        async with client_of(app) as client:
            return await client.request(method, path, json=body, **options)

    return asyncio.run(scenario())


def post(path, body, **settings):
    return ask(make(**settings), "POST", path, body)


def events(answer):
    """The data of a stream's events, parsed but for OpenAI's last word."""
    data = [line[6:] for line in answer.text.splitlines() if line.startswith("data: ")]
    return [each if each == "[DONE]" else json.loads(each) for each in data]
