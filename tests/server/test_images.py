"""Hostile and odd images, as queries and as thumbnails; numbers are those of the fault list."""

from __future__ import annotations

import os
import signal
import struct
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anglehash.server.gallery_api import key_of
from anglehash.server.image_encoder import WorkerPool
from tests.server.conftest import Client, Running, picture, until
from tests.server.decoders import dawdle, hostile


def png_header(width: int, height: int) -> bytes:
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return start + struct.pack(">I", 10) + b"IDAT" + b"\0" * 14


JPEG = picture(3, size=(300, 200))


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again, up to a given number of scans."""
    data = picture(3, size=(64, 48), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    # A refinement that changes nothing: the same scan with its bits cleared is a run of end-of-bands.
    return data[:-2] + last * (count - data.count(b"\xff\xda")) + data[-2:]


REFUSED: dict[str, tuple[Callable[[], bytes], int, str]] = {
    "26 zero bytes": (lambda: b"", 415, "empty"),
    "26 text": (lambda: b"hello, world", 415, "not-an-image"),
    "26 html with JPEG magic": (lambda: b"\xff\xd8\xff<html>", 415, "not-an-image"),
    "27 half a JPEG": (lambda: JPEG[: len(JPEG) // 2], 422, "truncated"),
    "27 a JPEG without its end": (lambda: JPEG[:-2], 422, "truncated"),
    "32 a PNG bomb": (lambda: png_header(100_000, 100_000) + b"\0" * 100, 413, "too-large"),
    "a JPEG of 2,000 scans": (lambda: many_scans(2000), 413, "too-large"),
    "a JPEG of 101 scans": (lambda: many_scans(101), 413, "too-large"),
    "33 one pixel": (lambda: picture(1, size=(1, 1), kind="PNG"), 422, "too-small"),
    "33 a hair": (lambda: picture(1, size=(8, 2000), kind="PNG"), 422, "too-elongated"),
    "35 EPS": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", 415, "unsupported-format"),
    "35 PSD": (lambda: b"8BPS\0\1" + b"\0" * 20, 415, "unsupported-format"),
    "35 PDF": (lambda: b"%PDF-1.7\n", 415, "unsupported-format"),
    "35 SVG": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415, "unsupported-format"),
    "35 JPEG 2000": (lambda: b"\0\0\0\x0cjP  \r\n\x87\n", 415, "unsupported-format"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_an_image_says_why(client: Client, case: str) -> None:
    make, status, reason = REFUSED[case]
    answer = client.image(make())
    assert (answer.status, answer.reason) == (status, reason)
    assert answer.json["detail"]


def converted(mode: str, kind: str) -> bytes:
    stream = BytesIO()
    Image.open(BytesIO(JPEG)).convert(mode).save(stream, kind)
    return stream.getvalue()


def animated() -> bytes:
    stream = BytesIO()
    frames = [Image.new("P", (30, 30), i) for i in range(5)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    return stream.getvalue()


def deep() -> bytes:
    stream = BytesIO()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64) * 16).save(stream, "PNG")
    return stream.getvalue()


READ_ALL_THE_SAME: dict[str, Callable[[], bytes]] = {
    "26 a JPEG with a ZIP behind it": lambda: JPEG + b"PK\3\4" + b"tail" * 1000,
    "a JPEG of 90 scans": lambda: many_scans(90),
    "a progressive JPEG with a ZIP behind it": lambda: picture(3, progressive=True) + b"\xff\xda" * 1000,
    "scans that are only said in a comment": lambda: picture(3, comment=b"\xff\xda" * 1000),
    "28 CMYK": lambda: converted("CMYK", "JPEG"),
    "28 grey with alpha": lambda: converted("LA", "PNG"),
    "28 one bit": lambda: converted("1", "PNG"),
    "28 palette": lambda: converted("P", "PNG"),
    "29 16 bits": deep,
    "30 an animation": animated,
    "34 WebP": lambda: converted("RGB", "WEBP"),
    "34 TIFF": lambda: converted("RGB", "TIFF"),
    "34 BMP": lambda: converted("RGB", "BMP"),
    "37 a long comment": lambda: picture(3, comment=b"c" * 60_000),
}


@pytest.mark.parametrize("case", READ_ALL_THE_SAME)
def test_images_of_every_kind_are_searched_by(client: Client, case: str) -> None:
    answer = client.image(READ_ALL_THE_SAME[case](), "wrong-extension.txt", k="1")
    assert answer.status == 200
    assert len(answer.json["results"]) == 1


def test_31_every_orientation_has_the_code_of_the_upright_image(client: Client) -> None:
    upright = Image.open(BytesIO(picture(3, size=(48, 48), kind="PNG"))).convert("RGB")
    back = {
        1: None, 2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    codes = set()
    for orientation, turn in back.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        stream = BytesIO()
        (upright.transpose(turn) if turn is not None else upright).save(stream, "PNG", exif=exif)
        codes.add(client.image(stream.getvalue()).json["query"]["code"])
    assert len(codes) == 1


def test_a_thumbnail_is_rebuilt_from_the_pixels(client: Client, photos: Path) -> None:
    """26: nothing of what else was in the file is in it."""
    answer = client.get(f"/v1/items/{key_of('cat/<img src=x onerror=alert(1)>.png')}/thumbnail")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/jpeg")
    assert max(Image.open(BytesIO(answer.body)).size) == 256
    again = client.get(
        f"/v1/items/{key_of('cat/<img src=x onerror=alert(1)>.png')}/thumbnail",
        **{"If-None-Match": answer.headers["etag"]},
    )
    assert (again.status, again.body) == (304, b"")


def test_thumbnails_of_files_with_a_tail_of_links_and_of_files_that_are_gone(
    running: Running, photos: Path, tmp_path: Path
) -> None:
    """26 and 47: no tail, nothing through a link that leads out, 404 for what is gone."""
    path = photos / "eel" / "19.jpg"
    before = path.read_bytes()
    address = f"/v1/items/{key_of('eel/19.jpg')}/thumbnail"
    kept = running.service.thumbnails
    try:
        path.write_bytes(before + b"SECRET" * 1000)
        kept._kept.clear()
        answer = running.client.get(address)
        assert answer.status == 200
        assert b"SECRET" not in answer.body
        (tmp_path / "secret.jpg").write_bytes(before)
        for change in ("nothing", "link", "pipe"):
            path.unlink(missing_ok=True)
            if change == "link":
                path.symlink_to(tmp_path / "secret.jpg")
            elif change == "pipe":
                os.mkfifo(path)
            kept._kept.clear()
            assert running.client.get(address).reason == "no-image"
            assert running.client.get(f"/v1/items/{key_of('eel/19.jpg')}").json["status"] == "missing"
    finally:
        path.unlink(missing_ok=True)
        path.write_bytes(before)


def test_36_a_decoder_that_is_killed_costs_its_own_request_only(running: Running, photos: Path) -> None:
    data = (photos / "cat" / "04.jpg").read_bytes()
    expected = running.client.image(data).json
    for _ in range(3):
        for worker in running.service.image_encoder._decoders._workers:
            if worker._process is not None:
                os.kill(worker._process.pid, signal.SIGKILL)
        assert running.client.image(data).json == expected


def test_36_images_that_kill_and_hang_are_refused(
    running: Running, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers = WorkerPool(hostile, 1, 0.5)
    monkeypatch.setattr(running.service.image_encoder, "_decoders", workers)
    try:
        assert running.client.image(b"kill").reason == "decoder-died"
        assert running.client.image(b"hang").reason == "decoder-timeout"
        bug = running.client.image(b"bug")
        assert (bug.status, bug.reason) == (500, "internal")
        assert running.client.get("/healthz").status == 200
    finally:
        workers.stop()
        workers.close()


def test_past_the_queue_it_is_503_with_retry_after(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.service.image_encoder.images, "_most", 2)
    workers = WorkerPool(dawdle, 1, 30)
    monkeypatch.setattr(running.service.image_encoder, "_decoders", workers)
    try:
        with ThreadPoolExecutor(6) as threads:
            answers = list(threads.map(lambda _: running.client.image(b"x"), range(6)))
    finally:
        workers.stop()
        workers.close()
    busy = [answer for answer in answers if answer.status == 503]
    assert {answer.status for answer in answers} == {422, 503}
    assert {(answer.reason, answer.headers["retry-after"]) for answer in busy} == {("busy", "1")}
    until(lambda: running.service.image_encoder.images.pending == 0)


def test_bodies_in_memory_are_bounded(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running.service.bodies, "_most", 1000)
    assert running.client.image(JPEG).reason == "busy"
    assert running.service.bodies.used == 0
