"""A machine whose time passes by hand and whose workers live in this process: the supervisor's counterpart in tests."""

from __future__ import annotations

import asyncio
from collections import deque

import phiplug_toy
from phiplug.engine import Scheduler
from phiplug.engine.backend import GuardedModel
from phiplug.server.ports import EngineInfo
from phiplug.server.worker.health import Look
from phiplug.server.worker.process import Worker
from phiplug.server.worker.wire import Decoder, Load, Loaded, NotLoaded, encode
from phiplug.spi import LoadOptions, ModelFiles
from phiplug_toy.tokenizer import ByteTokenizer


class StagedChild:
    """A worker on the toy model. It dies in its step number `dies_in`, whose chunks are then lost."""

    def __init__(self, pid, *, slots, dies_in=None, cannot_load=None):
        self.pid = pid
        self.steps = self.compiled = 0
        self.paused = False
        self._dies_in, self._cannot_load = dies_in, cannot_load
        model = phiplug_toy.load(ModelFiles("toy", phiplug_toy.CORPUS, phiplug_toy.FORMAT), LoadOptions(slots=slots))
        self._info = EngineInfo("toy", model.info)
        self.worker = Worker(Scheduler(GuardedModel(model, "toy"), ByteTokenizer()), self._compiled)
        self._loop = asyncio.get_running_loop()
        self._decoder, self._said = Decoder(), deque()
        self._code = None
        self._news = asyncio.Event()

    def send(self, message):
        for came in self._decoder.feed(encode(message)):
            if isinstance(came, Load):
                failed = self._cannot_load
                self.say(Loaded(self._info) if failed is None else NotLoaded(failed))
                if failed is not None:
                    self.end(0)
            else:
                self._obey(came)
        self._news.set()

    def _obey(self, message):
        if (answer := self.worker.obey(message)) is not None:
            self.say(answer)
        self._news.set()

    def _compiled(self, message):
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._obey, message)
            self.compiled += 1

    def say(self, message):
        self._said.extend(Decoder().feed(encode(message)))
        self._news.set()

    async def messages(self):
        while True:
            while self._said:
                yield self._said.popleft()
            if self._code is not None:
                return
            if self.worker.is_idle or self.paused:
                self._news.clear()
                await self._news.wait()
                continue
            self._step()
            await asyncio.sleep(0)

    def _step(self):
        produced = self.worker.step()
        self.steps += 1
        if self.steps == self._dies_in:
            self.end(-11)
        elif produced is not None:
            self.say(produced)

    def end(self, code):
        self._code = code if self._code is None else self._code
        self._news.set()

    def kill(self):
        self.end(-9)

    def dismiss(self):
        self.end(0)

    async def wait(self):
        return self._code


class Stage:
    """A machine that starts the workers of `lives`, each described by what `StagedChild` takes; then sound ones."""

    def __init__(self, *lives, slots=3):
        self.time = 0.0
        self.children = []
        self.stopped = False
        self._lives, self._slots = deque(lives), slots
        self._sleepers = []

    def now(self):
        return self.time

    async def sleep(self, seconds):
        if seconds:
            woken = asyncio.Event()
            self._sleepers.append((self.time + seconds, woken))
            await woken.wait()

    async def pass_time(self, seconds, tick=0.25):
        """Let so many seconds go by, and everybody do what they do meanwhile."""
        until = self.time + seconds
        while self.time < until:
            self.time += tick
            for at, woken in self._sleepers:
                if at <= self.time:
                    woken.set()
            self._sleepers = [each for each in self._sleepers if each[0] > self.time]
            for _ in range(20):
                await asyncio.sleep(0)

    def look(self, pid):
        return Look(self.time, self.stopped and pid == self.children[-1].pid, self.time)

    async def spawn(self):
        life = self._lives.popleft() if self._lives else {}
        if isinstance(life, Exception):
            raise life
        self.stopped = False
        self.children.append(StagedChild(len(self.children) + 1, slots=self._slots, **life))
        return self.children[-1]
