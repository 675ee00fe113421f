"""The page for everybody: by keyboard, on narrow screens, in the dark, and to a screen reader."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.conftest import Client, Running
from tests.server.page.conftest import NARROW, WIDE, Visit, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FAULTS = """() => {
  const faults = [];
  const shown = (node) => node.checkVisibility({ visibilityProperty: true });
  const labelling = (node) => document.getElementById(node.getAttribute("aria-labelledby"));
  const nameOf = (node) => [node.getAttribute("aria-label"), node.textContent, node.labels?.[0]?.textContent,
    labelling(node)?.textContent].some((text) => text?.trim());
  const tell = (fault, node) => faults.push(`${fault}: ${node.outerHTML.slice(0, 160)}`);
  const named = "button, a, input, select, dialog[open], nav, [role=slider], [role=img]";
  for (const node of document.querySelectorAll(named)) if (shown(node) && !nameOf(node)) tell("no name", node);
  for (const node of document.querySelectorAll("img")) if (!node.hasAttribute("alt")) tell("no alt", node);
  for (const node of document.querySelectorAll("a:not([href])")) if (shown(node)) tell("no href", node);
  const ids = [...document.querySelectorAll("[id]")].map((node) => node.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) faults.push(`id twice: ${id}`);
  for (const node of document.querySelectorAll("[aria-labelledby], [aria-describedby]"))
    for (const id of (node.getAttribute("aria-labelledby") ?? node.getAttribute("aria-describedby")).split(" "))
      if (shown(node) && !document.getElementById(id)) tell("points nowhere", node);
  for (const one of ["main", "h1"])
    if ([...document.querySelectorAll(one)].filter(shown).length !== 1) faults.push(`not one ${one}`);
  if (!document.documentElement.lang || !document.title) faults.push("no language, or no title");
  return faults;
}"""

CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, below) => below.map((c, i) => (i < 3 ? top[i] * top[3] + c * (1 - top[3]) : 1));
  const behind = (node) => {
    const own = rgba(getComputedStyle(node).backgroundColor);
    if (own[3] === 1 || node === document.documentElement) return own;
    return over(own, behind(node.tagName === "DIALOG" ? document.body : node.parentElement));
  };
  const linear = (v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  let seen = 0;
  for (let text; (text = walker.nextNode());) {
    const node = text.parentElement;
    if (!text.data.trim() || !node.checkVisibility({ visibilityProperty: true })) continue;
    if (node.closest(".similar, svg, :disabled, option, .unseen, .dropping")) continue;
    if (document.querySelector("dialog[open]") && !node.closest("dialog")) continue;
    const ground = behind(node);
    const [a, b] = [light(over(rgba(getComputedStyle(node).color), ground)), light(ground)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    seen += 1;
    if (ratio < 4.5) faults.push(`${ratio.toFixed(2)}: ${text.data.trim().slice(0, 40)} in ${node.className}`);
  }
  return seen < 10 ? [`only ${seen} texts`] : faults;
}"""


def focused(page: Page) -> str:
    found: str = page.evaluate("document.activeElement.id || document.activeElement.className")
    return found


@pytest.mark.parametrize(
    ("size", "dark"),
    [(WIDE, False), (NARROW, True), ((320, 640), False)],
    ids=["wide-light", "narrow-dark", "tiny-light"],
)
def test_every_view_fits_and_can_be_read(
    browser: Browser, running: Running, photos: Path, size: tuple[int, int], dark: bool
) -> None:
    def look(view: str) -> None:
        visit.settle()
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0], f"{view} scrolls sideways"
        assert page.evaluate(FAULTS) == [], view
        assert page.evaluate(CONTRAST) == [], view

    with visiting(browser, running.client.port, size=size, dark=dark) as visit:
        page = visit.go()
        page.evaluate("document.querySelector('#filters').open = true")
        look("browsing")
        visit.search_by(photos / "cat" / "02.jpg")
        look("answers")
        query = page.evaluate("location.hash")
        page.locator(".face").nth(5).click()
        page.wait_for_selector(".bit-grid")
        look("details")
        assert page.evaluate("(d => d.scrollWidth <= d.clientWidth)(document.querySelector('#detail'))")
        page.keyboard.press("Escape")
        visit.go(f"{query}&path=nowhere*")
        look("nothing found")
        page.click("#to-help")
        look("keys")
        page.keyboard.press("Escape")
        visit.go("#health")
        page.wait_for_selector(".plot")
        look("health")


def test_all_of_it_by_keyboard(visit: Visit) -> None:
    page = visit.go()
    press = page.keyboard.press
    press("Tab")
    assert focused(page) == "skip"
    press("Enter")
    assert focused(page) == "face"
    press("ArrowRight")
    press("ArrowDown")
    columns = page.evaluate(
        "getComputedStyle(document.querySelector('#grid')).gridTemplateColumns.split(' ').length"
    )
    at = "[...document.querySelectorAll('.face')].indexOf(document.activeElement)"
    assert page.evaluate(at) == 1 + columns
    press("Enter")
    page.wait_for_selector("#detail[open] .bit-grid")
    assert focused(page) == "detail-title"
    first = page.inner_text("#detail-title")
    press("ArrowRight")
    page.wait_for_function(f"() => document.querySelector('#detail-title').textContent !== {first!r}")
    page.wait_for_selector("#detail[open]:not([aria-busy]) .bit-grid")
    page.focus(".bit-grid")
    press("End")
    assert page.get_attribute(".bit-grid", "aria-valuetext").startswith("Bit 16 is ")  # type: ignore[union-attr]
    press("Escape")
    page.wait_for_selector("#detail:not([open])", state="attached")
    assert page.evaluate(at) == 2 + columns
    press("s")
    page.wait_for_selector("#title:text('Similar to')")
    visit.settle()
    assert page.evaluate(at) == 0
    press("End")
    press("ArrowRight")  # past the last: the next page
    page.wait_for_function(f"() => {at} === 36")
    press("Escape")
    page.wait_for_selector("#title:text('All images')")
    press("/")
    assert focused(page) == "label"
    page.keyboard.type("eel")
    press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 20")
    page.evaluate("document.activeElement.blur()")
    press("h")
    page.wait_for_selector(".plot")
    press("b")
    page.wait_for_selector("#title:text('All images')")
    press("?")
    page.wait_for_selector("#help[open]")
    page.uncheck("#single-keys")  # for those whose speech presses letters
    press("Escape")
    press("h")
    assert page.evaluate("location.hash") == "#images"


def test_changes_are_reported_to_a_screen_reader(visit: Visit, photos: Path, client: Client) -> None:
    page = visit.go()
    nearest = client.image((photos / "cat" / "02.jpg").read_bytes(), k="1").json["results"][0]
    bits = "1 bit" if nearest["distance"] == 1 else f"{nearest['distance']} bits"
    assert page.get_attribute("#status", "role") == "status"
    assert page.get_attribute("#alert", "role") == "alert"
    visit.search_by(photos / "cat" / "02.jpg")
    assert focused(page) == "title"
    assert page.get_attribute("#to-images", "aria-current") == "page"
    assert page.locator(".face[tabindex='0']").count() == 1
    assert page.locator(".face").first.inner_text().split() == (
        f"{nearest['labels'][0]} {bits} away the same picture".split()
    )
