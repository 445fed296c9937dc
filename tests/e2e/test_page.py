"""Tests the page at `/` in Chromium, as a person uses it, on engines that say what they are told to say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import threading
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from served import make, served_model

from phiplug.errors import BackendFailed
from phiplug.server.ports import EngineStatus, Event
from phiplug.types import Chunk, Usage

browsers = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
expect = browsers.expect

WAITS = None
"""In a script: the engine goes on computing until it is cancelled."""

SCRIPTS = {
    "greet": {"one": ["Good ", "morning", ". How are you?"], "two": ["Good ", "morning. ", "How are you?"]},
    "differ": {"one": ["It is ", "a 🐱 cat"], "two": ["It is a 🐶", " dog"]},
    "longer": {"one": ["Yes"], "two": ["Yes", ", of course"]},
    "line": {"one": ["a", "\nb"], "two": ["a", " b"]},
    "wait": {"one": ["Some ", "words", WAITS], "two": ["Some ", "other", WAITS]},
    "break": {"one": ["half of", BackendFailed("the engine\nbroke")], "two": ["all of it"]},
    "say nothing": {"one": [], "two": []},
    "markup": {name: ["<img src=x onerror=alert(1)><b>bold</b>"] for name in ("one", "two")},
}


class Scripted:
    """An engine that answers what the last message of the prompt has in `SCRIPTS`."""

    status = EngineStatus()

    def __init__(self, name, like):
        self.name, self._like, self.cancelled = name, like, False
        self.info = replace(like.info, backend=name)

    async def submit(self, work):
        return self._answer(bytes(token for token in work.request.prompt_ids if token < 256).decode())

    async def _answer(self, prompt):
        asked = prompt.rpartition("user: ")[2]
        pieces = next((SCRIPTS[name][self.name] for name in SCRIPTS if asked.startswith(name)), ["unknown"])
        try:
            for piece in pieces:
                await asyncio.sleep(0.01)
                if piece is WAITS:
                    await asyncio.Event().wait()
                if isinstance(piece, Exception):
                    raise piece
                yield Event(0, Chunk(piece, tokens=(1,)))
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled = True
            raise
        yield Event(0, Chunk("", finish_reason="stop", usage=Usage(3, len(pieces))))

    async def close(self):
        await self._like.close()


@pytest.fixture
def serve():
    """Serve two scripted engines, on a port of their own."""
    servers = []

    def start(**settings):
        model = served_model(ctx_size=512)
        like = model.engine(None)
        app = make(replace(model, engines={name: Scripted(name, like) for name in ("one", "two")}), **settings)
        listening = socket.create_server(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, ws="none"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{listening.getsockname()[1]}", app

    yield start
    for server, thread in servers:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def chromium():
    with browsers.sync_playwright() as playwright:
        installed = filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome")))
        found = next(installed, playwright.chromium.executable_path)
        if not Path(found).exists():
            pytest.skip("Chromium is not installed")
        sandbox = [] if os.name == "nt" or os.geteuid() else ["--no-sandbox"]  # which root may not have
        browser = playwright.chromium.launch(executable_path=found, args=sandbox)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium):
    """Open the page; in the end it has complained of nothing and asked no other server."""
    opened, complaints, asked = [], [], []

    def start(url, path="/", **options):
        page = chromium.new_page(**options)
        page.set_default_timeout(20_000)
        page.on("console", lambda said: complaints.append(said.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url + path)
        opened.append((page, url))
        return page

    yield start
    for page, url in opened:
        page.close()
        assert [each for each in asked if not each.startswith(url)] == []
    assert [each for each in complaints if not each.startswith("Failed to load resource")] == []


@pytest.fixture
def page(serve, open_page):
    return open_page(serve()[0])


def send(page, text):
    page.get_by_label("Message").fill(text)
    page.get_by_label("Message").press("Enter")


def idle(page):
    expect(page.get_by_role("button", name="Send")).to_be_visible()


def answers(page):
    return page.locator(".answer .text")


def test_an_answer_is_streamed_and_the_conversation_goes_with_the_next_question(page):
    page.get_by_label("System prompt").fill("Be kind.")
    page.get_by_label("Seed").fill("7")
    send(page, "greet me")
    expect(answers(page)).to_have_text("Good morning. How are you?")
    expect(page.locator(".figures")).to_contain_text("first token after")
    expect(page.locator(".figures")).to_contain_text("3 tokens")
    idle(page)
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "greet me again")
    body = json.loads(asked.value.post_data)
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][2]["content"] == "Good morning. How are you?"
    sampling = {"temperature": 0.8, "top_p": 0.95, "repeat_penalty": 1.1, "seed": 7, "max_tokens": 512}
    assert body.items() >= {**sampling, "model": "toy", "backend": "one"}.items()
    idle(page)


def test_another_engine_answers_where_it_is_chosen(page):
    page.get_by_label("Model").select_option(label="toy · two")
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "longer")
    assert json.loads(asked.value.post_data)["backend"] == "two"
    expect(answers(page)).to_have_text("Yes, of course")
    expect(page.locator(".who")).to_have_text("toy · two")


@pytest.mark.parametrize("how", ["Escape", "Stop"])
def test_stopping_cancels_the_request_and_keeps_what_was_said(serve, open_page, how):
    url, app = serve()
    page = open_page(url)
    send(page, "wait")
    expect(answers(page)).to_have_text("Some words")
    if how == "Stop":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    idle(page)
    expect(page.locator(".figures")).to_contain_text("stopped")
    expect(page.get_by_label("Message")).to_be_focused()
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "greet")
    assert json.loads(asked.value.post_data)["messages"][1]["content"] == "Some words"
    idle(page)
    assert app.state.service.catalog.model(None).engine("one").cancelled


def test_a_new_chat_forgets_the_conversation_and_stops_its_answer(page):
    send(page, "wait")
    expect(answers(page)).to_have_text("Some words")
    page.get_by_role("button", name="New chat").click()
    idle(page)
    expect(answers(page)).to_have_count(0)
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "greet")
    assert len(json.loads(asked.value.post_data)["messages"]) == 1
    idle(page)


def test_shift_enter_begins_a_line_and_sends_nothing(page):
    message = page.get_by_label("Message")
    message.press_sequentially("a")
    message.press("Shift+Enter")
    message.press_sequentially("b")
    expect(message).to_have_value("a\nb")
    expect(answers(page)).to_have_count(0)


def test_markup_is_shown_as_text(page):
    send(page, "markup <img src=y>")
    expect(answers(page)).to_have_text("<img src=x onerror=alert(1)><b>bold</b>")
    expect(page.locator(".question .text")).to_have_text("markup <img src=y>")
    assert page.locator("main img, main b").count() == 0
    idle(page)


def test_an_error_in_the_stream_is_one_line_and_the_question_comes_back(page):
    send(page, "break")
    expect(page.locator(".answer .problem")).to_have_text("error: the engine broke")
    idle(page)
    expect(answers(page)).to_have_text("half of")
    expect(page.get_by_label("Message")).to_have_value("break")
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "greet")
    assert len(json.loads(asked.value.post_data)["messages"]) == 1
    idle(page)


def test_a_refused_request_is_one_line(page):
    send(page, "x" * 600)
    expect(page.locator(".answer .problem")).to_contain_text("error: ")
    expect(page.locator(".answer .problem")).to_contain_text("512")
    idle(page)


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (lambda route: route.abort(), "error: the server cannot be reached"),
        (lambda route: route.fulfill(status=502, body="<h1>no</h1>"), "error: the server answered 502 Bad Gateway"),
        (
            lambda route: route.fulfill(status=200, body='data: {"choices": []}\n\n'),
            "error: the connection ended before the answer did",
        ),
    ],
    ids=["no server", "a proxy", "cut off"],
)
def test_a_lost_server_is_one_line(serve, open_page, happens, told):
    page = open_page(serve()[0])
    page.route("**/v1/chat/completions", happens)
    send(page, "greet")
    expect(page.locator(".answer .problem")).to_have_text(told)
    idle(page)


def test_an_empty_answer_is_called_one(page):
    send(page, "say nothing")
    expect(page.locator(".figures")).to_have_text("an empty answer")
    idle(page)


def test_a_setting_that_is_out_of_range_is_not_sent(page):
    page.get_by_label("Temperature").fill("3")
    page.locator("#settings summary").click()
    send(page, "greet")
    expect(page.get_by_label("Temperature")).to_be_focused()
    expect(page.get_by_label("Message")).to_have_value("greet")
    expect(answers(page)).to_have_count(0)


def test_a_setting_that_is_left_empty_is_the_servers(page):
    for name in ("Temperature", "Max tokens"):
        page.get_by_label(name).fill("")
    with page.expect_request("**/v1/chat/completions") as asked:
        send(page, "greet")
    assert not {"temperature", "max_tokens", "seed"} & json.loads(asked.value.post_data).keys()
    idle(page)


def compare(page, text, *, in_turn=False):
    page.get_by_role("link", name="Compare").click()
    page.get_by_label("One after the other").set_checked(in_turn)
    send(page, text)


@pytest.mark.parametrize("in_turn", [False, True])
@pytest.mark.parametrize(
    ("asked", "verdict", "marks"),
    [
        ("greet", "The answers are equal.", []),
        ("differ", "The answers differ from character 9 on.", ["🐱", "🐶"]),
        ("longer", "The answers differ from character 4 on.", ["", ","]),
        ("line", "The answers differ from character 2 on.", ["\n", " "]),
        ("break", "The answers differ from character 1 on.", ["h", "a"]),
    ],
)
def test_two_engines_are_compared_up_to_the_first_character_that_differs(page, asked, verdict, marks, in_turn):
    compare(page, asked, in_turn=in_turn)
    expect(page.locator(".verdict")).to_have_text(verdict)
    idle(page)
    assert page.locator("mark").all_text_contents() == marks
    for column, name in enumerate(("one", "two")):
        said = "".join(piece for piece in SCRIPTS[asked][name] if isinstance(piece, str))
        assert answers(page).nth(column).evaluate("text => text.textContent") == said


def test_both_engines_get_one_seed_and_the_same_sampling(page):
    bodies = []
    page.on("request", lambda request: bodies.append(request.post_data) if request.method == "POST" else None)
    compare(page, "greet")
    expect(page.locator(".verdict")).to_have_text("The answers are equal.")
    first, second = map(json.loads, bodies)
    assert {first.pop("backend"), second.pop("backend")} == {"one", "two"}
    assert first == second
    expect(page.locator(".asked")).to_have_text(f"greet (seed {first['seed']})")
    idle(page)


def test_what_was_stopped_is_compared_as_far_as_it_goes(page):
    compare(page, "wait")
    expect(page.locator(".verdict")).to_have_text("The answers differ from character 6 on.")
    page.keyboard.press("Escape")
    idle(page)
    for figures in page.locator(".figures").all():
        expect(figures).to_contain_text("stopped")


def test_screen_readers_hear_sentences_and_not_tokens(page):
    send(page, "greet")
    heard = page.locator("[aria-live] p")
    expect(heard).to_have_text(["Good morning. ", "How are you?"])
    idle(page)


def test_the_key_is_asked_for_and_kept_in_memory_alone(serve, open_page):
    page = open_page(serve(key="secret")[0])
    key, use = page.get_by_label("Key", exact=True), page.get_by_role("button", name="Use this key")
    key.fill("wrong")
    key.press("Enter")
    expect(page.locator("dialog .problem")).to_have_text("error: the server refused this key")
    key.fill("secret")
    use.click()
    expect(page.locator("dialog")).to_be_hidden()
    send(page, "greet")
    expect(answers(page)).to_have_text("Good morning. How are you?")
    idle(page)
    kept = "[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage), location.href]"
    assert "secret" not in str(page.evaluate(kept)) + page.content()
    page.reload()
    expect(page.locator("dialog")).to_be_visible()


def test_without_the_key_one_line_says_so_and_it_is_asked_for_again(serve, open_page):
    page = open_page(serve(key="secret")[0])
    expect(page.locator("dialog")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#problem")).to_have_text("error: this server needs a key")
    send(page, "greet")
    page.get_by_label("Key", exact=True).fill("secret")
    page.get_by_label("Key", exact=True).press("Enter")
    expect(answers(page)).to_have_text("Good morning. How are you?")
    expect(page.locator("#problem")).to_be_empty()
    idle(page)


@pytest.mark.parametrize("view", ["#chat", "#compare"])
@pytest.mark.parametrize("width", [320, 400, 1200])
def test_nothing_is_wider_than_the_window(serve, open_page, view, width):
    page = open_page(serve()[0], f"/{view}", viewport={"width": width, "height": 700})
    send(page, "markup" + "x" * 200)
    idle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.scrollHeight") <= 700
    for element in page.locator("button:visible, select:visible, textarea:visible, .answer").all():
        box = element.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width


def test_the_page_is_dark_where_the_system_is(serve, open_page):
    url, _ = serve()
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (open_page(url, color_scheme=scheme).evaluate(ground) for scheme in ("light", "dark"))
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 24, 28)")


def test_the_keyboard_reaches_everything_in_order_and_shows_where_it_is(page):
    named = "element => element.name || element.ariaLabel || element.textContent.trim()"
    page.locator("nav a").first.focus()
    seen = []
    for _ in range(14):
        focused = page.locator(":focus")
        seen.append(focused.evaluate(named))
        assert focused.evaluate("element => getComputedStyle(element).outlineStyle") == "solid", seen
        page.keyboard.press("Tab")
    settings = ["system", "temperature", "top_p", "repeat_penalty", "seed", "max_tokens"]
    assert seen[:9] == ["Chat", "Compare", "Settings", *settings]
    assert seen[9:] == ["toy · onetoy · two", "New chat", "Conversation", "prompt", "Send"]
