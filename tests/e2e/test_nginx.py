"""Two servers behind nginx, with the configuration of docs/examples/nginx.conf: what a killed server loses."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from replicas import CHAT, answers, ask, body, expected, free_port, tally

CONFIGURATION = (Path(__file__).parents[2] / "docs/examples/nginx.conf").read_text(encoding="utf-8")
NGINX = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin:/opt/homebrew/bin")
COUNT = 200

pytestmark = [pytest.mark.slow, pytest.mark.skipif(NGINX is None, reason="nginx is not installed")]


@pytest.fixture
def servers(start):
    """Two servers of the toy model, each as its process and its address."""
    return [start("--ctx-size", "512", "--slots", "4") for _ in range(2)]


@pytest.fixture
def proxied(servers, tmp_path):
    """The address of nginx before them."""
    ports = dict(zip(("8080", "8081"), (url.rpartition(":")[2] for _, url in servers), strict=True))
    ports["8000"] = str(free_port())
    site = CONFIGURATION
    for documented, here in ports.items():
        assert site.count(f"127.0.0.1:{documented}") == 1
        site = site.replace(f"127.0.0.1:{documented}", f"127.0.0.1:{here}")
    paths = "".join(f"{kind}_temp_path {tmp_path};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    main = f"pid {tmp_path}/pid; events {{}} http {{ access_log off; {paths}\n{site}}}"
    (tmp_path / "nginx.conf").write_text(main, encoding="utf-8")
    command = [NGINX, "-p", str(tmp_path), "-e", "stderr", "-c", str(tmp_path / "nginx.conf"), "-g", "daemon off;"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    url = f"http://127.0.0.1:{ports['8000']}"
    while not answers(url):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    yield url
    process.terminate()
    process.communicate(timeout=20)


def answered(servers):
    """How many answers each server has given."""
    found = []
    for _, url in servers:
        lines = httpx.get(f"{url}/metrics").text.splitlines()
        counts = [line for line in lines if line.startswith("phiplug_requests_total") and CHAT in line]
        found.append(sum(float(line.rpartition(" ")[2]) for line in counts))
    return found


def post(url, at, headers):
    assert httpx.post(f"{url}{CHAT}", json=body(at, max_tokens=1), headers=headers, timeout=60).status_code == 200


def test_a_session_stays_with_one_server_and_many_are_spread(proxied, servers):
    for at in range(8):
        post(proxied, at, {"x-session": "one"})
    assert sorted(answered(servers)) == [0, 8]
    for at in range(32):
        post(proxied, at, {"x-session": f"session-{at}"} if at % 2 else {})
    assert min(answered(servers)) > 4


def test_a_killed_server_loses_the_streams_that_it_had_begun_and_nothing_else(proxied, servers):
    texts = expected(COUNT)
    seen, moment = ask(proxied, COUNT, act=servers[0][0].kill, after=COUNT // 3)
    found = tally(seen, texts, moment)
    print(found)
    assert (found.wrong, found.whole + found.broken) == (0, COUNT)
    assert found.broken <= 12  # so many were open
    assert [each.began < moment for each in seen if not each.is_whole] == [True] * found.broken
    assert found.came_after > COUNT // 3
