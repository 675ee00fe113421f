"""What the command line does with a gallery, in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import anglehash
from anglehash import Gallery, Hasher, open_gallery
from anglehash.errors import DataError, OutputExistsError


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(12):
        photo(folder / ("cat" if number % 2 else "dog") / f"{number:02d}.png", number)
    return folder


@pytest.fixture(scope="module")
def models(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        hasher = Hasher(bits=16, backbone="tiny", image_size=16, settings={"epochs": 1}, seed=seed)
        hasher.fit(photos).save(folder / str(seed))
    return [folder / "0", folder / "1"]


def test_a_gallery_from_begin_to_end(photos: Path, models: list[Path], tmp_path: Path) -> None:
    gallery = Gallery.from_images(tmp_path / "g", photos, models[0])
    assert len(gallery) == 12
    best = gallery.search_image(photos / "cat" / "03.png", 3)
    assert (best[0].id, best[0].distance, len(best)) == ("cat/03.png", 0, 3)
    assert gallery.search_image(photos / "cat" / "03.png", radius=0)[0].id == "cat/03.png"

    more = photo(tmp_path / "more" / "new.png", 99).parent
    assert gallery.add(more, prefix="later").added == 1
    assert "later/new.png" in gallery.ids
    assert gallery.remove(["later/new.png"]) == 1
    with pytest.raises(DataError, match=r"no item 'later/new\.png'"):
        gallery.remove(["later/new.png"])
    assert gallery.sync(photos).unchanged == 12
    assert not gallery.duplicates().groups

    gallery.backup(tmp_path / "g.tar")
    again = Gallery.restore(tmp_path / "g.tar", tmp_path / "h")
    assert again.ids == gallery.ids
    assert Gallery.verify(tmp_path / "h") == []
    Gallery.repair(tmp_path / "h")
    again.reindex(models[1])
    assert again.model_id != gallery.model_id
    with pytest.raises(OutputExistsError):
        Gallery.from_images(tmp_path / "h", photos, models[0])
    assert isinstance(open_gallery(str(tmp_path / "g")), Gallery)


def test_losses_and_metrics_are_namespaces() -> None:
    assert anglehash.losses.OrthoHashLoss.__name__ == "OrthoHashLoss"
    assert callable(anglehash.metrics.mean_average_precision)
    with pytest.raises(AttributeError, match="NoLoss"):
        anglehash.losses.NoLoss  # noqa: B018
