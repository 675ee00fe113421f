"""What a person does on the page: search, look, go on, go back."""

from __future__ import annotations

import re
from pathlib import Path

from anglehash.gallery.gallery import Gallery
from tests.server.conftest import Client, Running, picture
from tests.server.page.conftest import Visit

ALL = 61
PAGE = 36


def distances(visit: Visit) -> list[int]:
    return [int(text.split()[0]) for text in visit.page.locator(".far").all_inner_texts()]


def bits(n: int) -> str:
    return "1 bit" if n == 1 else f"{n} bits"


def test_a_dropped_image_is_answered_by_the_nearest(visit: Visit, photos: Path, client: Client) -> None:
    page = visit.go()
    visit.search_by(photos / "dog" / "03.jpg")
    answer = client.image((photos / "dog" / "03.jpg").read_bytes(), k=str(PAGE)).json
    expected = answer["results"]
    assert distances(visit) == [result["distance"] for result in expected]
    assert page.locator(".face img").evaluate_all("all => all.map(image => image.alt)") == [
        result["id"].split("/")[-1] for result in expected
    ]
    assert page.locator(".face").first.locator(".same").inner_text() == "the same picture"
    assert page.locator(".same").count() == 2  # 18.jpg has the same bytes
    far = [result["distance"] for result in expected]
    last, tied = far[-1], answer["tied_at_last"]
    ties = f"; {tied} in all are {bits(last)} away" if tied > far.count(last) else ""
    reach = bits(last) if min(far) == max(far) else f"{min(far)} to {bits(max(far))}"
    assert page.inner_text("#status") == f"36 images so far, {reach} away{ties}"
    assert answer["unknown"] is False  # the gallery has the same picture
    assert "03.jpg" in page.inner_text("#asked")
    share = page.locator(".bar").last.evaluate("bar => bar.style.getPropertyValue('--share')")
    assert float(share) == 1 - expected[-1]["distance"] / 16


def test_an_unknown_image_is_said_to_be_one(visit: Visit, running: Running, tmp_path: Path) -> None:
    gallery = running.service.gallery
    assert isinstance(gallery, Gallery)
    level = gallery.level
    assert level is not None
    (tmp_path / "new.jpg").write_bytes(picture(999))
    try:
        for reach, unknown in ((-1, True), (16, False)):
            gallery.level = level._replace(bits=reach)
            page = visit.go()
            visit.search_by(tmp_path / "new.jpg")
            said = page.inner_text("#status").startswith("Nothing in this gallery looks like it. 36 images")
            assert said is unknown
    finally:
        gallery.level = level


def test_chosen_and_pasted_images_are_taken_too(visit: Visit, photos: Path) -> None:
    page = visit.go()
    page.set_input_files("#file", photos / "cat" / "05.jpg")
    page.wait_for_selector("#title:text('Nearest')")
    by_choice = page.evaluate("location.hash")
    page.click("#clear")
    page.wait_for_selector("#title:text('All images')")
    page.evaluate(
        """bytes => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "pasted.jpg", { type: "image/jpeg" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
        }""",
        list((photos / "cat" / "05.jpg").read_bytes()),
    )
    page.wait_for_selector("#asked:has-text('pasted.jpg')")
    page.wait_for_selector("#title:text('Nearest')")
    assert page.evaluate("location.hash") == by_choice


def test_details_similar_images_and_the_way_back(visit: Visit, photos: Path, client: Client) -> None:
    page = visit.go()
    visit.search_by(photos / "dog" / "03.jpg")
    query = page.evaluate("location.hash")
    face = page.locator(".face").nth(PAGE - 1)
    face.click()
    page.wait_for_selector(".bit-grid")
    key = re.search("open=([^&]+)", page.evaluate("location.hash"))
    assert key is not None
    item = client.get(f"/v1/items/{key[1]}").json
    cells = page.locator(".bit-grid i").evaluate_all("all => all.map(cell => cell.className)")
    own = f"{int(item['code'], 16):016b}"
    asked = f"{int(query.split('code=')[1], 16):016b}"
    assert [re.sub(" at", "", cell) for cell in cells] == [
        f"q{q} o{o}" for q, o in zip(asked, own, strict=True)
    ]
    same = sum(q == o for q, o in zip(asked, own, strict=True))
    assert page.inner_text(".code h3 >> nth=0") == f"{same} of 16 bits agree"
    assert page.inner_text("#detail-title") == item["id"].split("/")[-1]

    page.click("text=Similar to this")
    page.wait_for_selector("#title:text('Similar to')")
    visit.settle()
    assert not page.locator("#detail").is_visible()
    expected = client.post("/v1/search", {"id": item["id"], "k": PAGE}).json["results"]
    assert distances(visit) == [result["distance"] for result in expected]

    page.go_back()  # to the details
    page.wait_for_selector("#detail[open] .bit-grid")
    page.go_back()  # to the answers, with the person's own image
    page.wait_for_selector("#detail:not([open])", state="attached")
    assert page.evaluate("location.hash") == query
    assert "03.jpg" in page.inner_text("#asked")
    page.go_forward()
    page.wait_for_selector("#detail[open] .bit-grid")


def test_the_next_page_comes_by_key_and_by_scrolling(visit: Visit, photos: Path) -> None:
    page = visit.go()
    visit.search_by(photos / "eel" / "00.jpg")
    page.keyboard.press("n")
    page.wait_for_selector(f".tile:nth-child({ALL})")
    assert len(distances(visit)) == ALL
    same = page.locator(".same").count()  # they come first, however far their codes are
    assert distances(visit)[same:] == sorted(distances(visit)[same:])
    assert page.evaluate("document.activeElement === document.querySelectorAll('.face')[36]")
    assert page.inner_text("#end") == "That is all."
    page.click("#clear")
    page.wait_for_selector("#title:text('All images')")
    visit.settle()
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.wait_for_selector(f".tile:nth-child({ALL})")
    assert len(set(page.locator(".face").evaluate_all("all => all.map(face => face.href)"))) == ALL


def test_a_distance_and_filters_narrow_the_answers(visit: Visit, photos: Path, client: Client) -> None:
    page = visit.go()
    visit.search_by(photos / "dog" / "03.jpg")
    page.locator("#within").fill("1")
    page.wait_for_function("() => location.hash.includes('within=1')")
    visit.settle()
    assert page.inner_text("#within-text") == "1 bit"
    assert set(distances(visit)) <= {0, 1}
    page.locator("#within").fill("16")
    page.wait_for_function("() => !location.hash.includes('within')")
    page.click("#often >> text=dog")
    page.wait_for_function("() => location.hash.includes('label=dog')")
    visit.settle()
    assert set(page.locator(".name").all_inner_texts()[:20]) == {"dog"}
    page.fill("#path", "*/0*")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 10")
    page.reload()  # the address holds all of it
    page.wait_for_function("() => document.querySelectorAll('.tile').length === 10")
    page.fill("#path", "nowhere/*")
    page.keyboard.press("Enter")
    page.wait_for_selector("#empty:has-text('No image passes the filters')")
    page.click("#empty >> text=Clear the filters")
    page.wait_for_selector(f".tile:nth-child({PAGE})")
    assert page.locator("#chosen .chip").count() == 0


def test_browsing_heeds_every_filter(visit: Visit) -> None:
    page = visit.go("#images?path=eel/1*&label=eel&label=cat")
    assert page.locator(".tile").count() == 10
    visit.go("#images?after=2200-01-01")
    assert "No image passes the filters" in page.inner_text("#empty")


def test_a_broken_upload_says_why_and_leaves_what_was_there(
    visit: Visit, photos: Path, tmp_path: Path
) -> None:
    visit.expected = ["415", "422"]
    page = visit.go("#images?label=eel")
    (tmp_path / "text.jpg").write_bytes(b"not an image at all")
    visit.drop(tmp_path / "text.jpg", "<b>holiday</b>.jpg")
    page.wait_for_selector("#alert.shown")
    assert page.inner_text("#alert span").startswith("<b>holiday</b>.jpg cannot be searched by: ")
    assert len(page.inner_text("#alert span")) > 50
    assert page.locator(".tile .face").count() == 20
    (tmp_path / "cut.jpg").write_bytes(picture(3, size=(640, 480))[:3000])
    visit.drop(tmp_path / "cut.jpg")
    page.wait_for_selector("#alert:has-text('cut.jpg cannot be searched by')")
    visit.search_by(photos / "cat" / "00.jpg")
    assert not page.locator("#alert").is_visible()


def test_health_shows_what_the_service_counts(visit: Visit, client: Client) -> None:
    page = visit.go("#health")
    health = client.get("/v1/gallery/health").json
    page.wait_for_selector(".plot")
    figures = [text.replace(",", "") for text in page.locator(".cards dd").all_inner_texts()]
    assert figures == ["61", str(health["unique_codes"]), "16", "1"]
    assert page.locator(".plot rect").count() == 16
    assert "dog/broken.jpg" in page.inner_text(".files")
    page.click(".counts >> text=dog")
    page.wait_for_selector("#title:text('Filtered images')")
    visit.settle()
    assert page.locator(".tile").count() == 20
