"""What others chose is text, and what fails says so (FAULTS 48, 49)."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from anglehash.gallery.gallery import Gallery
from anglehash.server.auth import Keys
from tests.server.conftest import WRITE, Running, picture, serving
from tests.server.page.conftest import Visit, visiting

if TYPE_CHECKING:
    from playwright.sync_api import Browser

HOSTILE = "<img src=x onerror=alert(1)>.png"
LABEL = "<svg onload=alert(2)>\u202egpj"


def test_a_hostile_file_name_is_text(visit: Visit) -> None:
    page = visit.go()
    page.get_by_alt_text(HOSTILE).click()
    page.wait_for_selector(".bit-grid")
    assert page.inner_text("#detail-title") == HOSTILE
    assert page.inner_text(".known dd >> nth=0") == f"cat/{HOSTILE}"
    page.click("text=Similar to this")
    page.wait_for_selector("#asked:has-text('onerror')")
    assert page.locator("[onerror], img[src=x]").count() == 0


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery without a model and without images, whose ids and labels are hostile."""
    path = tmp_path_factory.mktemp("strange") / "gallery"
    ids = [HOSTILE, "javascript:alert(3)", "caf\udce9.jpg", "a" * 300, "../../etc/passwd"]
    codes = np.arange(5, dtype=np.uint8)[:, None]
    labels = [(LABEL,), ("__proto__",), (), ("constructor", LABEL), ("b" * 300,)]
    Gallery.create(path, codes=codes, ids=ids, labels=labels, bits=8, model_id="none").close()
    return path


def test_a_gallery_of_hostile_names_without_images(browser: Browser, strange: Path) -> None:
    with serving(strange) as running, visiting(browser, running.client.port) as visit:
        visit.expected = ["404"]  # the thumbnails
        page = visit.go()
        names = page.locator(".tile .name").all_inner_texts()
        assert names[:3] == [LABEL, "__proto__", "caf\udce9.jpg"]
        page.wait_for_selector(".frame.none")
        assert page.locator("#pick").is_disabled()
        for n in range(5):
            page.locator(".face").nth(n).click()
            page.wait_for_selector(".bit-grid")
            page.keyboard.press("Escape")
        page.locator(".face").nth(2).focus()  # the name that is not UTF-8
        page.keyboard.press("s")
        page.wait_for_selector("#title:text('Similar to')")
        visit.settle()
        assert page.locator(".tile").count() == 4
        page.keyboard.press("h")
        page.wait_for_selector(".counts")
        page.click(".counts a >> nth=0")
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 2")
        assert page.locator("[onerror], [onload]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_hostile_address_does_no_harm(visit: Visit) -> None:
    visit.expected = ["404", "422"]
    page = visit.go("#images?within=99999&where=[[]]&where={}&like=..%2F..%2Fx&open=%00&label=")
    page.wait_for_function(
        "() => document.querySelector('#detail-title').innerText.includes('cannot be shown')"
    )
    page.keyboard.press("Escape")
    assert page.inner_text("#title") == "That did not work"
    page.click("#empty >> text=All images")
    page.wait_for_selector(".face")
    visit.go("#images?code=zz")
    assert page.inner_text("#alert span")


def test_a_service_that_is_gone_or_busy(visit: Visit) -> None:
    visit.expected = ["ERR_FAILED", "503"]
    page = visit.go()
    page.route("**/v1/search", lambda route: route.abort())
    page.locator(".similar").first.click(force=True)
    page.wait_for_selector("#alert:has-text('does not answer')")
    answers = iter([503])
    page.unroute("**/v1/search")
    page.route(
        "**/v1/search",
        lambda route: (
            route.fulfill(status=status, headers={"Retry-After": "1"}, body="{}")
            if (status := next(answers, None))
            else route.continue_()
        ),
    )
    page.click("#empty >> text=Try again")
    page.wait_for_selector("#title:text('Similar to')")
    visit.settle()
    assert page.locator(".tile .face").count() == 36
    assert not page.locator("#alert").is_visible()


def test_a_key_is_asked_for_and_kept_in_the_tab_and_lets_add_and_remove(
    browser: Browser, gallery: Path, photos: Path, keys: Keys, tmp_path: Path
) -> None:
    shutil.copytree(gallery, tmp_path / "g")
    with serving(tmp_path / "g", keys=keys) as running, visiting(browser, running.client.port) as visit:
        visit.expected = ["401"]
        page = visit.page
        page.goto(visit.address)
        page.wait_for_selector("#key-dialog[open]")
        page.fill("#key", "wrong")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-why:has-text('not known')")
        page.fill("#key", WRITE)
        page.keyboard.press("Enter")
        page.wait_for_selector(".face img.loaded")
        assert page.locator(".face img").first.evaluate("image => image.naturalWidth") > 0
        assert WRITE not in page.evaluate("location.href + document.cookie + JSON.stringify(localStorage)")
        page.reload()
        page.wait_for_selector(".face img.loaded")
        assert not page.locator("#key-dialog").is_visible()

        page.click("#adding summary")
        hostile = "<img src=x onerror=alert(1)>.png"
        new = [{"name": hostile, "mimeType": "image/png", "buffer": picture(901, kind="PNG")},
               {"name": "no.jpg", "mimeType": "image/jpeg", "buffer": b"no image"}]  # fmt: skip
        page.set_input_files("#new-images", new)  # type: ignore[arg-type]
        page.fill("#new-labels", "new, <b>bold</b>")
        page.click("#add")
        page.wait_for_selector("#add-status:has-text('1 image added, 1 not:')")
        assert page.inner_text("#add-status li") == "no.jpg: not-an-image"
        assert page.inner_text("#facts").startswith("62 images")
        page.locator("#often .chip", has_text="<b>bold</b>").click()  # the labels are those of now
        page.wait_for_function("() => document.querySelectorAll('.tile').length === 1")
        page.locator(".face").click()
        page.click("text=Remove from the gallery")
        assert page.inner_text("dialog :focus") == "Keep"
        assert page.inner_text(".removal p").endswith("Its file, which was sent to the service, goes too.")
        page.click(".removal .danger")
        page.wait_for_selector("#empty:has-text('No image passes the filters.')")
        assert page.inner_text("#facts").startswith("61 images")
        assert not page.locator("#detail").is_visible()


def test_addresses_and_states_stand_for_each_other(visit: Visit) -> None:
    visit.go()
    states = visit.page.evaluate(
        """async () => {
          const { START, address, parse } = await import("/static/state.js");
          const full = { ...START, like: "a-_9", within: 0, labels: ["a&b=c", "#?%", "ü"], path: "x/*?[a]", open: "k",
            after: "2020-01-01", before: "2021-01-01", where: [["year", ">=2019"], ["a=b", "c\\"d"]] };
          const states = [START, { ...START, view: "health" }, { ...START, code: "00ff", within: 12 }, full];
          return states.map((state) => [state, parse(address(state))]);
        }"""
    )
    assert len(states) == 4
    for state, again in states:
        assert again == state


def test_leanings_and_bits_by_hand(visit: Visit) -> None:
    visit.go()
    bits, leanings = visit.page.evaluate(
        """async () => {
          const { bitsOf, leanings } = await import("/static/bits.js");
          const lean = { labels: ["a", "b"], lean: [[0.5, 0.5, 0], [0.9, 0.2, 0]] };
          return [bitsOf("b180", 9), leanings([1, 0, 1], [0, 1], lean)];
        }"""
    )
    assert bits == [1, 0, 1, 1, 0, 0, 0, 1, 1]
    # b has a 1 at the first bit in 90 % and a 0 at the second in 80 %; the third is not asked about
    assert [found["label"] for found in leanings] == ["b", "a"]
    assert leanings[0]["share"] == pytest.approx((0.9 + 0.8) / 2)
    assert leanings[1]["share"] == pytest.approx(0.5)


def test_the_page_is_made_of_its_own_files(running: Running) -> None:
    answer = running.client.get("/")
    text = answer.body.decode()
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "style=" not in text
    assert "<style" not in text
    assert "://" not in text
