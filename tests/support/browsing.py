"""A headless browser for the tests of pages; conftest.py hands its fixtures to all of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
Open: TypeAlias = "Callable[..., Page]"


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def show(chromium: Browser) -> Iterator[Open]:
    """Opens a page, and checks in the end that it complained of nothing, asked for nothing but itself, and ran no text."""
    opened: list[tuple[BrowserContext, Page]] = []
    complaints: list[str] = []

    def go(file: Path, width: int = 1280, **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": width, "height": 900}, **options)
        page = context.new_page()
        opened.append((context, page))
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda asked: None if asked.url.startswith((file.as_uri(), "data:")) else complaints.append(asked.url))
        page.goto(file.as_uri())
        return page

    yield go
    for context, page in opened:
        assert page.evaluate("window.hacked") is None
        context.close()
    assert complaints == []
