from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageColor

from anglehash.errors import DataError, OutputExistsError
from anglehash.serve import pictures
from anglehash.serve.pictures import Row, Tile, answers_png, caption, draw, thumbnail, to_png

GREY = np.full((8, 8), 128, dtype=np.uint8)


def row(answers: int = 2, labels: tuple[str, ...] = ("cat",)) -> Row:
    return Row(
        Tile(GREY, labels), [Tile(GREY, labels, distance=d, correct=d % 2 == 0) for d in range(answers)]
    )


def area(image: Image.Image, color: str) -> int:
    return int((np.asarray(image) == ImageColor.getrgb(color)).all(axis=2).sum())


def test_writes_a_png(tmp_path: Path) -> None:
    path = tmp_path / "answers.png"
    answers_png(path, [row(), row(3)])
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert np.array_equal(np.asarray(image), np.asarray(draw([row(), row(3)])))


def test_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    path = tmp_path / "answers.png"
    path.write_bytes(b"mine")
    with pytest.raises(OutputExistsError):
        answers_png(path, [row()])
    assert path.read_bytes() == b"mine"
    answers_png(path, [row()], force=True)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_nothing_to_draw(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least one query"):
        answers_png(tmp_path / "answers.png", [])
    assert list(tmp_path.iterdir()) == []


def test_frames_tell_right_from_wrong_from_unknown() -> None:
    for correct, color in ((True, pictures._RIGHT), (False, pictures._WRONG), (None, pictures._UNKNOWN)):
        with_answer = draw([Row(Tile(GREY), [Tile(GREY, distance=3, correct=correct)])])
        without = draw([Row(Tile(GREY), [])])
        frame = 4 * pictures._FRAME * (pictures._TILE - pictures._FRAME)
        assert area(with_answer, color) - area(without, color) >= 0.9 * frame  # the mark covers a corner
    assert area(draw([row(0)]), pictures._QUERY) == frame


def test_marks_differ_in_form_not_only_in_color() -> None:
    def mark(correct: bool) -> NDArray[np.bool_]:
        tile = draw([Row(Tile(GREY), [Tile(GREY, distance=3, correct=correct)])])
        x, y = pictures._ANSWERS + pictures._TILE - 13, pictures._MARGIN + pictures._HEADING + 13
        paper = np.asarray(tile)[y - 7 : y + 8, x - 7 : x + 8] == ImageColor.getrgb(pictures._PAPER)
        return np.asarray(paper.all(axis=2))

    assert mark(True).sum() > 10
    assert (mark(True) != mark(False)).sum() > 10


def test_small_scans_keep_their_pixels() -> None:
    scan = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    large = np.asarray(thumbnail(scan, 112))
    assert np.array_equal(large, np.repeat(np.kron(scan, np.ones((14, 14), np.uint8))[:, :, None], 3, axis=2))


@pytest.mark.parametrize("shape", [(8, 8), (1, 500), (500, 1), (300, 200, 3), (112, 112, 3)])
def test_every_size_fits(shape: tuple[int, ...]) -> None:
    image = thumbnail(np.zeros(shape, dtype=np.uint8), 112)
    assert image.mode == "RGB"
    assert max(image.size) == 112
    assert min(image.size) >= 1


def test_rows_of_unequal_length_and_without_answers() -> None:
    sizes = [draw(rows).size for rows in ([row(0)], [row(2)], [row(0), row(5)], [row(5)] * 3)]
    assert sizes[0] == sizes[1]  # the legend needs the room of two
    assert sizes[2][0] > sizes[1][0]
    assert sizes[3][1] > sizes[2][1]


@pytest.mark.parametrize("label", ["", "x" * 500, "a\nb\tc\0", "\udcff\ud800", "日本語 🦊", "<b>&amp;</b>"])
def test_any_label_can_be_drawn(label: str) -> None:
    picture = draw([row(1, (label, label))])
    assert picture.size == draw([row(1)]).size


def test_long_labels_end_inside_their_tile() -> None:
    picture = np.asarray(draw([Row(Tile(GREY, ("W" * 80,)), [])]))
    top = pictures._MARGIN + pictures._HEADING + pictures._TILE + 4
    text = picture[top : top + 18, pictures._MARGIN + pictures._TILE + 1 :]
    assert (text == 255).all()
    assert (picture[top : top + 18, : pictures._MARGIN + pictures._TILE] < 255).any()


def test_caption() -> None:
    assert caption(["\u202egnp.exe"]) == "�gnp.exe"  # a right-to-left override would rewrite the line
    assert caption([""]) == "no label"


def test_to_png_round_trips() -> None:
    image = thumbnail(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8), 24)
    with Image.open(BytesIO(to_png(image))) as again:
        assert np.array_equal(np.asarray(again), np.asarray(image))
