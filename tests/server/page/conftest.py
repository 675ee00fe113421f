"""The page in a real browser: Debian's Chromium without a window, driven by Playwright.

Without one of them these tests skip. Whatever a test does, its page must ask nobody but the service, and write
no error to the console but those that the test expects.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.conftest import Running

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request

WIDE, NARROW = (1280, 900), (390, 844)


@pytest.fixture(scope="module")  # it runs an event loop, which tests elsewhere must not find
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the page is tested with playwright")
    names = ["chromium", "chromium-browser", "google-chrome"]
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip("the page is tested in Chromium: apt-get install chromium, or name it by CHROMIUM")
    arguments = ["--disable-gpu", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
    with sync_api.sync_playwright() as play:
        found = play.chromium.launch(executable_path=path, args=arguments)
        yield found
        found.close()


@dataclass
class Visit:
    """A page in a window of its own.

    Attributes:
        page: it.
        address: of the service.
        expected: texts, one of which is in each error that may come to the console.
        errors: those that came.
    """

    page: Page
    address: str
    expected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def go(self, hash: str = "") -> Page:
        """Open the page, and wait until it is there."""
        self.page.goto(f"{self.address}/{hash}")
        self.page.wait_for_selector("#facts:not(:empty)", state="attached")
        self.settle()
        return self.page

    def settle(self) -> None:
        """Wait until nothing is awaited."""
        self.page.wait_for_selector("#main:not([aria-busy]), #view-health:not([hidden]) h2", state="attached")

    def drop(self, path: Path, name: str | None = None) -> None:
        """Drop a file onto the page."""
        self.page.evaluate(
            """([bytes, name]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], name, { type: "image/jpeg" }));
              const target = document.querySelector("#drop");
              for (const kind of ["dragenter", "dragover", "drop"])
                target.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true }));
            }""",
            [list(path.read_bytes()), name or path.name],
        )

    def search_by(self, path: Path) -> None:
        """Drop an image and wait for its answers."""
        self.drop(path)
        self.page.wait_for_selector("#title:text('Nearest to your image')")
        self.settle()


@contextmanager
def visiting(
    browser: Browser, port: int, *, size: tuple[int, int] = WIDE, dark: bool = False
) -> Iterator[Visit]:
    """Open a window; at its end nothing may have gone wrong in it."""
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce",
    )
    context.set_default_timeout(10_000)
    page = context.new_page()
    visit = Visit(page, f"http://127.0.0.1:{port}")
    elsewhere, dialogs = list[str](), list[str]()

    def requested(request: Request) -> None:
        if not request.url.startswith((visit.address, "blob:", "data:")):
            elsewhere.append(request.url)

    def reported(message: ConsoleMessage) -> None:
        if message.type == "error":
            visit.errors.append(message.text)

    def asked(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    page.on("request", requested)
    page.on("console", reported)
    page.on("dialog", asked)
    page.on("pageerror", lambda error: visit.errors.append(str(error)))
    yield visit
    context.close()
    assert elsewhere == []
    assert dialogs == []
    assert [text for text in visit.errors if not any(part in text for part in visit.expected)] == []


@pytest.fixture
def visit(browser: Browser, running: Running) -> Iterator[Visit]:
    """A wide window on a gallery of sixty images."""
    with visiting(browser, running.client.port) as found:
        yield found
