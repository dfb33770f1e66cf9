"""A real browser without a window: opens a page, and keeps whatever it complains about."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

PROGRAMS = ("chromium-headless-shell", "chromium")
WIDE, NARROW = 1280, 400
"""Widths at which a page must be readable, in pixels."""

LIMIT = 20_000
"""Milliseconds until something must be there."""

# What sticks out of the page to the right, and texts that are cut or smaller than can be read.
_FAULTS = """() => {
  const faults = [];
  const wide = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > wide)
    faults.push(`the page is ${document.documentElement.scrollWidth} px wide`);
  const scrolls = (node) => {
    for (let each = node; each; each = each.parentElement)
      if (["auto", "scroll"].includes(getComputedStyle(each).overflowX)) return true;
    return false;
  };
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
    const box = node.getBoundingClientRect();
    if (!own || !box.width || scrolls(node)) continue;
    const text = node.textContent.trim().slice(0, 40);
    if (box.right > wide + 1 || box.left < -1) faults.push(`sticks out: ${text}`);
    const matrix = node.getScreenCTM ? node.getScreenCTM() : null;
    const size = parseFloat(getComputedStyle(node).fontSize) * (matrix ? Math.hypot(matrix.a, matrix.b) : 1);
    if (size < (matrix ? 7 : 11)) faults.push(`${size.toFixed(1)} px: ${text}`);
  }
  return faults;
}"""


@dataclass
class Tab:
    """One page in the browser. `page` is playwright's.

    Attributes:
        complaints: errors and warnings of the console, and errors of scripts.
        asked: addresses that were asked for.
    """

    page: Any
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def faults(self) -> list[str]:
        """What a person could not read, at the width that the page has now."""
        found: list[str] = self.page.evaluate(_FAULTS)
        return found

    def wait(self, selector: str) -> None:
        """Until something is to be seen."""
        self.page.wait_for_selector(selector, timeout=LIMIT)


@contextmanager
def tab(width: int = WIDE, *, dark: bool = False) -> Iterator[Tab]:
    """A page in a browser of its own; the test is left out where there is no browser."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no browser: apt-get install {PROGRAMS[0]}")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Root, as whom tests on machines run, has no sandbox.
        browser = playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_page(
                viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light"
            )
            opened = Tab(page)
            page.on(
                "console",
                lambda said: (
                    opened.complaints.append(said.text)
                    if said.type in {"error", "warning"}
                    else None
                ),
            )
            page.on("pageerror", lambda error: opened.complaints.append(str(error)))
            page.on("request", lambda request: opened.asked.append(request.url))
            yield opened
        finally:
            browser.close()
