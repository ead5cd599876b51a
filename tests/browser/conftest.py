"""A real Chromium with every other host blocked, and a loopback server of static files."""

from __future__ import annotations

import functools
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
]
PATIENCE = 120_000  # milliseconds: a machine under load is no defect of the page
EXECUTABLES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Visit:
    """A page and what went wrong on it so far."""

    page: Any
    outside: list[str] = field(default_factory=list)  # requests to other hosts (aborted)
    errors: list[str] = field(default_factory=list)  # console errors, page errors, failed requests

    def assert_clean(self) -> None:
        assert not self.outside, f"requests to other hosts: {self.outside}"
        assert not self.errors, f"errors on the page: {self.errors}"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A running Chromium (playwright `Browser`); skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    executable = next(filter(None, map(shutil.which, EXECUTABLES)), None)
    if executable is None:
        pytest.skip(f"no Chromium on PATH (looked for {', '.join(EXECUTABLES)})")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=ARGUMENTS, timeout=PATIENCE)
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Any) -> Iterator[Callable[..., Any]]:
    """`with visit(address, width=1280, scripts=True, …) as visited:` opens a page in a fresh context."""

    @contextmanager
    def open_page(
        address: str, *, width: int = 1280, height: int = 900, scripts: bool = True, **options: Any
    ) -> Iterator[Visit]:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=scripts, **options
        )
        context.set_default_timeout(PATIENCE)
        visited = Visit(context.new_page())

        def gate(route: Any) -> None:
            parts = urlsplit(route.request.url)
            inside = parts.scheme in ("file", "data", "blob", "about")
            if inside or parts.hostname in ("127.0.0.1", "localhost"):
                route.continue_()
            else:
                visited.outside.append(route.request.url)
                route.abort()

        context.route("**/*", gate)
        visited.page.on(
            "console",
            lambda message: visited.errors.append(message.text) if message.type == "error" else None,
        )
        visited.page.on("pageerror", lambda error: visited.errors.append(str(error)))
        visited.page.on(
            "requestfailed", lambda request: visited.errors.append(f"failed: {request.url[:200]}")
        )
        try:
            visited.page.goto(address, wait_until="load")
            yield visited
        finally:
            context.close()

    return open_page


@pytest.fixture(scope="session")
def serve() -> Iterator[Callable[[Path], str]]:
    """`serve(folder)` serves it on loopback until the tests end and returns its address (no final slash)."""
    servers = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    def start(folder: Path) -> str:
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
