"""A browser before the page of a real server. Suite `sdk` of the gates starts the servers, and says where they are:

cargo test -p kakeya-gates --test suites -- sdk::page
"""

from __future__ import annotations

import json
import os
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

#: Long enough for a busy machine; reached only by a test that fails, in milliseconds.
PATIENCE = 60_000

expect.set_options(timeout=PATIENCE)


def _given(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        pytest.fail(f"{name} is not set: run these tests with `cargo test -p kakeya-gates --test suites -- sdk::page`")
    return value


class Server:
    """The server behind the page, asked by another client."""

    def __init__(self, origin: str, key: str | None = None) -> None:
        self.origin = origin
        self._key = key

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"content-type": "application/json"}
        if self._key is not None:
            headers["authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.origin + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE / 1000) as answer:
            return json.load(answer)

    def sessions(self) -> list[dict[str, Any]]:
        return self.ask("GET", "/v1/sessions")["data"]

    def close_all(self) -> None:
        for session in self.sessions():
            self.ask("DELETE", f"/v1/sessions/{session['id']}")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(_given("KAKEYA_TEST_HTTP"))
    yield server
    server.close_all()


@pytest.fixture
def locked() -> Iterator[tuple[Server, str]]:
    """A server that wants a key, and the key."""
    key = _given("KAKEYA_TEST_LOCKED_HTTP_KEY")
    server = Server(_given("KAKEYA_TEST_LOCKED_HTTP"), key)
    yield server, key
    server.close_all()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("there is no Chromium, which shows the page: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


#: Opens the page of a server, in a browser's context of its own.
Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Browser) -> Iterator[Opened]:
    """Opens pages. None of them may ask anything of another origin, or have an error that it does not expect."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []

    def open_page(server: Server, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(PATIENCE)
        page = context.new_page()
        page.on("pageerror", lambda error: faults.append(f"an exception: {error}"))
        page.on(
            "console",
            # A status that is no success is the browser's own line, and has a notice on the page.
            lambda said: faults.append(said.text) if said.type == "error" and "Failed to load" not in said.text else None,
        )
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((server.origin, "data:")) else faults.append(f"asked {asked.url}"),
        )
        page.goto(server.origin + "/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


@pytest.fixture
def picture(request: pytest.FixtureRequest) -> Callable[[Page], None]:
    """Keeps a picture of a page for a person to look at, in the folder KAKEYA_SCREENSHOTS if that is set."""
    folder = os.environ.get("KAKEYA_SCREENSHOTS")

    def take(page: Page) -> None:
        if folder is not None:
            page.screenshot(path=Path(folder) / f"{request.node.name}.png")

    return take
