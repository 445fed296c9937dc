"""Tests `phiplug serve` as a process of its own, on the toy model: it answers, refuses to be unsafe, and ends well."""

from __future__ import annotations

import json
import signal
import sys
import time

import httpx
import pytest

BODY = {"messages": [{"role": "user", "content": "Say hi."}], "max_tokens": 8, "seed": 7}


def test_a_served_model_answers_whole_and_as_a_stream(start):
    _, url = start("--served-name", "t")
    whole = httpx.post(f"{url}/v1/chat/completions", json={**BODY, "model": "t"}).json()
    streamed = httpx.post(f"{url}/v1/chat/completions", json={**BODY, "stream": True}).text
    data = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    said = "".join(choice["delta"].get("content", "") for each in data for choice in each["choices"])
    assert said == whole["choices"][0]["message"]["content"]
    assert streamed.endswith("data: [DONE]\n\n")


def test_every_model_is_served_by_its_name(start):
    _, url = start("-m", "toy", "--served-name", "one", "--served-name", "two")
    assert [model["id"] for model in httpx.get(f"{url}/v1/models").json()["data"]] == ["one", "two"]
    answers = [httpx.post(f"{url}/v1/chat/completions", json={**BODY, "model": name}).json() for name in ("one", "two")]
    assert answers[0]["choices"] == answers[1]["choices"]


@pytest.mark.parametrize("names", [("--served-name", "a", "--served-name", "b"), ("-m", "toy")], ids=str)
def test_names_that_fit_no_model_or_two_are_refused(phiplug, names):
    ran = phiplug("serve", "-m", "toy", "-b", "toy", *names)
    assert ran.code == 2
    assert "served_name" in ran.err


def test_a_model_that_cannot_be_loaded_is_one_line(phiplug):
    ran = phiplug("serve", "-m", "toy", "-b", "toy", "--ctx-size", "99999")
    assert ran.code == 2
    assert ran.err.splitlines()[-1].startswith("error: ctx_size: the toy backend cannot do 99999")
    assert "Traceback" not in ran.err


def test_the_key_comes_from_the_environment(start):
    _, url = start(key="secret")
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert httpx.get(f"{url}/v1/models", headers={"x-api-key": "secret"}).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_another_address_than_loopback_needs_a_key(phiplug, monkeypatch, host):
    monkeypatch.delenv("PHIPLUG_API_KEY", raising=False)
    ran = phiplug("serve", "-m", "toy", "-b", "toy", "--host", host)
    assert ran.code == 2
    assert "needs a key" in ran.err


def test_a_key_file_without_a_key_is_refused(phiplug, tmp_path):
    (tmp_path / "key").write_text("\nsecret")
    ran = phiplug("serve", "-m", "toy", "-b", "toy", "--api-key-file", str(tmp_path / "key"))
    assert ran.code == 2


def stream_of(client, url):
    body = {**BODY, "max_tokens": 4000, "ignore_eos": True, "stream": True}
    return client.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process could take")
def test_a_signal_lets_an_open_stream_end_in_an_error_event_when_its_time_is_over(start):
    process, url = start("--drain", "0.2")
    with httpx.Client() as client, stream_of(client, url) as answer:
        lines = answer.iter_lines()
        next(lines)
        process.send_signal(signal.SIGTERM)
        rest = [line for line in lines if line]
    assert rest[-1] == "data: [DONE]"
    assert "stopping" in rest[-2]
    assert process.wait(timeout=20) in (0, -signal.SIGTERM)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM that a process could take")
def test_a_second_signal_ends_at_once(start):
    process, url = start("--drain", "600")
    with httpx.Client() as client, stream_of(client, url) as answer:
        next(answer.iter_lines())
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
