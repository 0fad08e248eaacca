"""The web console: the same answers, the same doors, and a page that works in a real browser."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from colreduce_service.access import new_token
from colreduce_service.connections import MOST
from colreduce_service.server import Server

from colreduce import Index
from colreduce.errors import BadInput
from tests.chromium import Browser, chromium
from tests.hashing_encoder import HashingEncoder
from tests.service import running
from tests.service.running import serving

TEXTS = {
    "bread": "Wild yeasts 🍞 raise a dough <script>window.hurt = 1</script>",
    "tides": "The Moon raises two bulges in the oceans",
    "slugs": "Slugs feed at night",
}


class Model(HashingEncoder):
    """The words' encoder with what tells models apart."""

    def __init__(self) -> None:
        super().__init__()
        self.identity = {**self.identity, "sha256": "of words"}

    def copy(self) -> Model:
        return Model()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("console")
    with Index.create(folder / "small", recipe="ward(factor=2)", encoder=Model()) as index:
        index.add(list(TEXTS), list(TEXTS.values()), metadata=[{"n": n} for n in range(3)])
    return folder


@pytest.fixture
def server(root: Path) -> Iterator[Server]:
    with serving(root, Model(), console="127.0.0.1:0") as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


def ask(
    server: Server, method: str, content: Any, **headers: str
) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    connection = http.client.HTTPConnection(server.console, timeout=20)
    body = content if isinstance(content, (str, bytes)) else json.dumps(content)
    sent = {"Content-Type": "application/json", **headers}
    connection.request("POST", f"/api/{method}", body, sent)
    answer = connection.getresponse()
    found = json.loads(answer.read()), answer.headers
    connection.close()
    return answer.status, *found


def test_a_search_gets_what_the_service_answers(server: Server) -> None:
    status, found, _ = ask(server, "search", {"query": {"text": "wild yeasts"}, "k": 2})
    assert status == 200
    assert found["hits"][0]["id"] == "bread"
    assert len(found["hits"]) == 2
    status, told, _ = ask(server, "explain", {"query": {"text": "wild"}, "id": "bread"})
    assert status == 200
    assert told["text"] == TEXTS["bread"]
    assert ask(server, "describe", {})[1]["documents"] == "3"


@pytest.mark.parametrize(
    ("method", "content", "headers", "status"),
    [
        ("drop", {}, {}, 404),
        ("search", "{", {}, 400),
        ("search", {"no such field": 1}, {}, 400),
        ("search", {"query": {"text": "x"}, "k": 100_000}, {}, 400),
        ("search", {"collection": "other", "query": {"text": "x"}}, {}, 404),
        ("search", {}, {"Content-Type": "text/plain"}, 415),
        ("search", " " * 70_000, {}, 413),
        ("search", b"\xff\xfe", {}, 400),
        ("search", "[" * 60_000, {}, 400),
        ("list", {}, {"Authorization": "Bearer \xe9"}, 401),
        ("list", {}, {"Host": "evil.example"}, 421),
    ],
)
def test_wrong_questions_get_an_error_in_words(
    server: Server, method: str, content: Any, headers: dict[str, str], status: int
) -> None:
    got, found, _ = ask(server, method, content, **headers)
    assert got == status
    assert found["error"]
    assert ask(server, "list", {})[0] == 200


def test_a_body_that_was_refused_unread_is_no_request_of_its_own(server: Server) -> None:
    host, port = server.console.split(":")
    hidden = f"POST /api/list HTTP/1.1\r\nHost: {server.console}\r\n"
    hidden += "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    shown = f"POST /api/list HTTP/1.1\r\nHost: {server.console}\r\nContent-Type: text/plain\r\n"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(f"{shown}Content-Length: {len(hidden)}\r\n\r\n{hidden}".encode())
        with connection.makefile("rb") as answers:
            answered = answers.read()
    assert answered.count(b"HTTP/1.1 ") == 1
    assert b"415" in answered.splitlines()[0]
    assert b"Connection: close" in answered


def test_connections_have_an_end_and_their_places_come_back(server: Server) -> None:
    def page() -> int:
        connection = http.client.HTTPConnection(server.console, timeout=20)
        try:
            connection.request("GET", "/")
            return connection.getresponse().status
        except ConnectionError:  # it was closed before the question was read
            return 503
        finally:
            connection.close()

    with running.idle_connections(server.console, MOST):
        running.until(lambda: page() == 503)
    running.until(lambda: page() == 200)


def test_whoever_has_no_token_sees_nothing(root: Path, tmp_path: Path) -> None:
    secret, entry = new_token("ada", "read")
    (tmp_path / "tokens.txt").write_text(entry.line() + "\n")
    with serving(root, Model(), console="127.0.0.1:0", tokens=tmp_path / "tokens.txt") as server:
        assert ask(server, "list", {})[0] == 401
        assert ask(server, "list", {}, Authorization="Bearer wrong")[0] == 401
        assert ask(server, "list", {}, Authorization=f"Bearer {secret}")[0] == 200


def test_the_console_is_for_this_machine_unless_told(root: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--insecure"), serving(root, console="0.0.0.0:0"):
        pass
    with serving(root) as server:
        assert server.console == ""


def test_a_browser_searches_and_explains(server: Server, browser: Browser, tmp_path: Path) -> None:
    for dark in (False, True):
        browser.show_address(f"http://{server.console}/", width=420 if dark else 1200, dark=dark)
        until(browser, "document.querySelector('#bytes .bar') !== null")
        assert browser.value("document.querySelector('#collection').value") == "small"
        browser.value("document.querySelector('#query').value = 'wild yeasts'; 0")
        browser.value("document.querySelector('#ask').requestSubmit(); 0")
        until(browser, "document.querySelectorAll('.hit').length === 3")
        assert "1. bread" in browser.value("document.querySelector('.hit').textContent")
        browser.value("document.querySelector('.hit button').click(); 0")
        until(browser, "document.querySelector('.hit table') !== null")
        assert browser.value("document.querySelector('.hit .text').textContent") == TEXTS["bread"]
        assert browser.value("document.querySelectorAll('.hit mark').length") > 3
        assert browser.value("window.hurt === undefined")
        assert browser.value("document.querySelectorAll('#times div').length") == 1
        assert browser.value("document.querySelector('#problem').textContent") == ""
        assert browser.value("document.documentElement.scrollWidth <= window.innerWidth")
        assert browser.complaints() == []
        assert all(one.startswith(f"http://{server.console}/") for one in browser.requests())
        browser.picture(tmp_path / f"console-{dark}.png")


def test_losses_that_a_demonstration_noted_are_drawn(browser: Browser, tmp_path: Path) -> None:
    with Index.create(tmp_path / "demo", recipe="ward(factor=2)", encoder=Model()) as index:
        index.add(list(TEXTS), list(TEXTS.values()))
        index.note(losses=[{"stage": "exact", "nDCG@10": 0.75}, {"stage": "ward", "nDCG@10": 0.5}])
    with serving(tmp_path / "demo", Model(), console="127.0.0.1:0") as server:
        browser.show_address(f"http://{server.console}/", width=1200)
        until(browser, "document.querySelectorAll('#ledger .row').length === 2")
        told = browser.value("document.querySelector('#ledger').textContent")
        assert browser.complaints() == []
    for part in ("ward", "50.0", "nDCG@10, on judged queries"):
        assert part in told


def until(browser: Browser, expression: str) -> None:
    """Wait for something to become true in the page."""
    end = time.monotonic() + 15
    while not browser.value(expression):
        assert time.monotonic() < end, (
            expression,
            browser.value("document.querySelector('#problem').textContent"),
            browser.complaints(),
        )
        time.sleep(0.05)
