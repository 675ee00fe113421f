from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.data.datasets.nuswide import CONCEPTS, load
from anglehash.errors import DataError, ImageError

IMAGES = 3_000


def layout(root: Path, flags: NDArray[np.bool_], *, newline: str = "\r\n") -> list[str]:
    """The official files for random images: ``flags`` is ``(images, concepts)``."""
    names = [f"folder{row % 7}\\{row:04d}_{row * 31}.jpg" for row in range(len(flags))]
    lists, concepts = root / "ImageList", root / "Groundtruth" / "AllLabels"
    lists.mkdir()
    concepts.mkdir(parents=True)
    (lists / "Imagelist.txt").write_text(newline.join(names) + newline, newline="")
    (lists / "TrainImagelist.txt").write_text("\n".join(names[::2]))
    (lists / "TestImagelist.txt").write_text("\n".join(names[1::2]))
    for c, column in enumerate(flags.T):
        (concepts / f"Labels_c{c:02d}.txt").write_text(
            "".join(f"{int(v)}{newline}" for v in column), newline=""
        )
    return [name.replace("\\", "/") for name in names]


@pytest.fixture(scope="module")
def flags() -> NDArray[np.bool_]:
    """81 concepts whose frequencies grow in an order that is not the alphabet's."""
    rng = np.random.default_rng(0)
    return rng.random((IMAGES, 81)) < rng.permutation(np.linspace(0.001, 0.05, 81))


def test_the_most_frequent_concepts_of_the_official_layout(tmp_path: Path, flags: NDArray[np.bool_]) -> None:
    names = layout(tmp_path, flags)
    data = load(tmp_path)
    frequent = np.sort(np.argsort(-flags.sum(axis=0), kind="stable")[:CONCEPTS])
    kept = np.flatnonzero(flags[:, frequent].any(axis=1))
    assert data.class_names == tuple(f"c{c:02d}" for c in frequent)
    assert data.ids == tuple(names[row] for row in kept)
    np.testing.assert_array_equal(data.labels, flags[kept][:, frequent])
    assert data.parts.tolist() == ["train" if row % 2 == 0 else "test" for row in kept]
    assert data.facts == {
        "listed": IMAGES,
        "concepts": 81,
        "without_frequent_concept": IMAGES - len(kept),
    }
    assert len(data.unlabelled) == 0
    assert 0 < len(kept) < IMAGES


def test_equal_frequencies_go_by_name(tmp_path: Path) -> None:
    layout(tmp_path, np.ones((4, 30), dtype=bool), newline="\n")
    assert load(tmp_path).class_names == tuple(f"c{c:02d}" for c in range(CONCEPTS))


def test_images_are_read_below_flickr(tmp_path: Path) -> None:
    layout(tmp_path, np.ones((2, 3), dtype=bool))
    (tmp_path / "Flickr" / "folder0").mkdir(parents=True)
    (tmp_path / "Flickr" / "folder0" / "0000_0.jpg").write_bytes(b"photo")
    data = load(tmp_path)
    assert data.images.read(0) == b"photo"
    with pytest.raises(ImageError, match="unreadable-file"):
        data.images.read(1)


def test_without_official_parts_there_are_none(tmp_path: Path) -> None:
    layout(tmp_path, np.ones((2, 3), dtype=bool))
    for part in ("Train", "Test"):
        (tmp_path / "ImageList" / f"{part}Imagelist.txt").unlink()
    assert load(tmp_path).parts.tolist() == ["", ""]


@pytest.mark.parametrize("text", ["1\n", "1\n1\n1\n", "1\n2\n"])
def test_a_concept_file_that_does_not_fit_is_named(tmp_path: Path, text: str) -> None:
    layout(tmp_path, np.ones((2, 3), dtype=bool))
    (tmp_path / "Groundtruth" / "AllLabels" / "Labels_c01.txt").write_text(text)
    with pytest.raises(DataError, match=r"Labels_c01\.txt must hold 0 or 1 for each of the 2 images"):
        load(tmp_path)


def test_absent_concepts_and_climbing_paths_are_named(tmp_path: Path) -> None:
    layout(tmp_path, np.ones((2, 0), dtype=bool))
    with pytest.raises(DataError, match=r"has no Labels_\*\.txt"):
        load(tmp_path)
    (tmp_path / "ImageList" / "Imagelist.txt").write_text("a\\1.jpg\n..\\1.jpg\n")
    with pytest.raises(DataError, match="line 2 is not a path below"):
        load(tmp_path)


def test_lists_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("images/1.jpg 1 0\n")
    (tmp_path / "test.txt").write_text("images/2.jpg 0 1\n")
    data = load(tmp_path)
    assert data.name == "nuswide"
    assert data.ids == ("test/images/2.jpg", "train/images/1.jpg")
