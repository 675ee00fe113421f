from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

from anglehash.errors import DataError, OutputExistsError
from anglehash.report.answer_grid import answers_png, draw
from anglehash.report.pictures import Row, Tile

GREY = np.full((8, 8), 128, dtype=np.uint8)


def row(answers: int = 2, labels: tuple[str, ...] = ("cat",)) -> Row:
    return Row(
        Tile(GREY, labels), [Tile(GREY, labels, distance=d, correct=d % 2 == 0) for d in range(answers)]
    )


def test_writes_the_same_png_each_time(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        answers_png(tmp_path / name, [row(), row(3)])
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        assert image.width > 500


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


def test_frames_and_marks_tell_right_from_wrong_from_unknown() -> None:
    answers = [Tile(GREY, ("cat",), distance=3, correct=correct) for correct in (True, False, None)]
    tiles = draw([Row(Tile(GREY, ("cat",)), answers)]).axes
    said = [[text.get_text() for text in axes.texts] for axes in tiles]
    assert said == [["cat", ""], ["✓", "cat", "3 bits"], ["✗", "cat", "3 bits"], ["cat", "3 bits"]]
    assert len({to_hex(axes.spines["left"].get_edgecolor()) for axes in tiles}) == 4


def test_rows_of_unequal_length_and_without_answers() -> None:
    figures = [draw(rows) for rows in ([row(0)], [row(2)], [row(0), row(5)], [row(5)] * 3)]
    sizes = [tuple(figure.get_size_inches()) for figure in figures]
    assert sizes[0] == sizes[1]  # the legend needs the room
    assert sizes[2][0] > sizes[1][0]
    assert sizes[3][1] > sizes[2][1]


@pytest.mark.parametrize(
    "label", ["", "x" * 500, "a\nb\tc\0", "\udcff\ud800", "日本語 🦊", "<b>&amp;</b>", "$x_1$ \\frac $"]
)
def test_any_label_can_be_drawn(label: str, tmp_path: Path) -> None:
    answers_png(tmp_path / "answers.png", [row(1, (label, label))])
    words = draw([row(0, (label, label))]).axes[0].texts[0].get_text()
    assert len(words) <= 17
    assert words.isprintable()
