from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

import anglehash.models.features as features
from anglehash.data.dataset import Arrays
from anglehash.data.image_hash import content_key
from anglehash.data.images.decoding import Preprocessing
from anglehash.errors import ImageError, ModelError
from anglehash.files import sha256_json
from anglehash.models.backbones import Backbone, make_backbone
from anglehash.models.features import FeatureCache, cache_folder, extract


@dataclass
class Means:
    """A backbone that can be checked by hand: the mean of each channel. It counts its images."""

    name: str = "means"
    size: int = 8
    width: int = 3
    engine: str = "numpy"
    seen: int = 0
    breaks_after: int = 10**9
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(size=8))

    @property
    def identity(self) -> str:
        return sha256_json([self.name, self.size])

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.seen += len(images)
        if self.seen > self.breaks_after:
            raise ModelError("killed")
        means: NDArray[np.float32] = images.mean(axis=(1, 2), dtype=np.float32)
        return means


class Store:
    """Images that may be refused, and may change under the reader's hands."""

    def __init__(self, images: list[NDArray[np.uint8] | ImageError]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def read(self, row: int) -> NDArray[np.uint8]:
        image = self.images[row]
        if isinstance(image, ImageError):
            raise image
        return image


def colours(n: int, seed: int = 0) -> NDArray[np.uint8]:
    """One plain colour an image, so that its features are that colour."""
    colour = np.random.default_rng(seed).integers(0, 256, (n, 1, 1, 3), dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(colour, (n, 8, 8, 3)))


def run(images: Any, backbone: Means | None = None, **options: Any) -> features.Features:
    return extract(images, cast(Backbone, backbone or Means()), **options)


def shards(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.safetensors"))


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD", 32)


@pytest.fixture(params=[True, False], ids=["cached", "uncached"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "cache" if request.param else None


def test_gives_the_features_of_every_image(cache: Path | None) -> None:
    images = colours(100)
    found = run(Arrays(images), cache=cache)
    np.testing.assert_array_equal(found.values, images[:, 0, 0].astype(np.float32))
    assert found.values.dtype == np.float32
    assert found.rows.tolist() == list(range(100))
    assert found.problems == []


def test_takes_rows_in_any_order_and_more_than_once(cache: Path | None) -> None:
    images = colours(50)
    rows = np.array([7, 3, 3, 49])
    found = run(Arrays(images), rows=rows, cache=cache)
    np.testing.assert_array_equal(found.values, images[rows, 0, 0])
    np.testing.assert_array_equal(found.rows, rows)
    assert run(Arrays(images), rows=rows[:0], cache=cache).values.shape == (0, 3)


def test_a_bad_image_is_absent_and_shifts_nothing(cache: Path | None) -> None:
    images = colours(5)
    store = Store([images[0], ImageError("damaged", "half"), images[2], images[0][:4, :4], images[4]])
    for _ in range(2):  # the second time the others come out of the cache
        found = run(store, cache=cache)
        assert found.rows.tolist() == [0, 2, 4]
        np.testing.assert_array_equal(found.values, images[[0, 2, 4], 0, 0])
        assert [problem[:2] for problem in found.problems] == [(1, "damaged"), (3, "too-small")]


def test_nothing_is_computed_twice(tmp_path: Path) -> None:
    images = np.concatenate([colours(60), colours(60)])  # every image is there twice
    first, again = Means(), Means()
    computed = run(Arrays(images), first, cache=tmp_path)
    cached = run(Arrays(images), again, cache=tmp_path)
    assert (first.seen, again.seen) == (60, 0)
    np.testing.assert_array_equal(cached.values, computed.values)
    np.testing.assert_array_equal(computed.values, images[:, 0, 0])
    assert run(Arrays(images[::-1]), again, cache=tmp_path).values.tolist() == computed.values[::-1].tolist()
    assert again.seen == 0


def test_a_copy_of_a_bad_image_is_bad_too(tmp_path: Path) -> None:
    images = colours(2)
    store = Store([images[0][:4, :4], images[1], images[0][:4, :4]])
    found = run(store, cache=tmp_path)
    assert found.rows.tolist() == [1]
    assert [problem[:2] for problem in found.problems] == [(0, "too-small"), (2, "too-small")]


def test_the_cache_of_another_backbone_is_not_used(tmp_path: Path) -> None:
    images = colours(40)
    run(Arrays(images), cache=tmp_path)
    for other in (Means(name="other"), Means(size=16), Means(engine="another version")):
        run(Arrays(images), other, cache=tmp_path)
        assert other.seen == 40
    assert len(list((tmp_path / "features").iterdir())) == 4


@pytest.mark.parametrize("killed", [False, True], ids=["failed", "killed"])
def test_goes_on_where_it_stopped(tmp_path: Path, killed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    images = colours(100)
    with monkeypatch.context() as patch:
        if killed:  # then nothing is written at the end
            patch.setattr(FeatureCache, "__exit__", lambda self, *error: None)
        with pytest.raises(ModelError, match="killed"):
            run(Arrays(images), Means(breaks_after=70), cache=tmp_path)
    second = Means()
    found = run(Arrays(images), second, cache=tmp_path)
    assert second.seen == 100 - 64  # two batches of 32 were whole
    np.testing.assert_array_equal(found.values, images[:, 0, 0])


@pytest.mark.parametrize("place", [0, 9, 60, 200, 700, -1])
def test_a_damaged_shard_is_never_believed(tmp_path: Path, place: int) -> None:
    images = colours(32)
    run(Arrays(images), cache=tmp_path)
    (shard,) = shards(tmp_path)
    good = shard.read_bytes()
    assert len(good) > 32 * (32 + 12)
    shard.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place:][1:])
    again = Means()
    np.testing.assert_array_equal(run(Arrays(images), again, cache=tmp_path).values, images[:, 0, 0])
    if shard.exists() and shard.read_bytes() != good:  # a damaged key is not one that was looked for
        assert again.seen == 1
    else:
        assert again.seen == 32


def test_a_shard_that_was_cut_is_replaced(tmp_path: Path) -> None:
    images = colours(32)
    run(Arrays(images), cache=tmp_path)
    (shard,) = shards(tmp_path)
    good = shard.read_bytes()
    for length in (0, 4, 100, len(good) - 1):
        shard.write_bytes(good[:length])
        np.testing.assert_array_equal(run(Arrays(images), cache=tmp_path).values, images[:, 0, 0])
        assert shard.read_bytes() == good


def test_foreign_files_are_left_alone(tmp_path: Path) -> None:
    folder = cache_folder(tmp_path, cast(Backbone, Means()))
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    (folder / "half.safetensors.tmp").write_text("mine")
    images = colours(10)
    np.testing.assert_array_equal(run(Arrays(images), cache=tmp_path).values, images[:, 0, 0])
    assert (folder / "notes.txt").read_text() == "mine"


def test_writers_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    images = colours(96)

    class Nested(Means):
        """Runs a second extraction over the same cache, in the middle of the first."""

        def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
            if self.seen == 0:
                run(Arrays(images[::-1]), cache=tmp_path)
            return super().__call__(pixels)

    np.testing.assert_array_equal(run(Arrays(images), Nested(), cache=tmp_path).values, images[:, 0, 0])
    last = Means()
    np.testing.assert_array_equal(run(Arrays(images), last, cache=tmp_path).values, images[:, 0, 0])
    assert last.seen == 0


def test_an_image_that_changes_meanwhile_does_not_spoil_the_cache(tmp_path: Path) -> None:
    old, new = colours(2)

    class Changing(Store):
        def read(self, row: int) -> NDArray[np.uint8]:
            image = super().read(row)
            self.images[row] = new
            return image

    found = run(Changing([old]), cache=tmp_path)
    assert found.problems == [(0, "unreadable-file", "it changed while it was being read")]
    assert run(Arrays(old[None]), cache=tmp_path).values[0].tolist() == old[0, 0].tolist()


def test_a_cache_that_cannot_be_written_costs_only_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    images = colours(3)
    found = run(Arrays(images), cache=tmp_path / "cache")
    np.testing.assert_array_equal(found.values, images[:, 0, 0])
    assert "is not cached" in caplog.text


def test_reports_from_what_is_known_to_the_end(tmp_path: Path) -> None:
    images = colours(70)
    run(Arrays(images[:40]), cache=tmp_path)
    said: list[tuple[str, int, int, str]] = []
    store = Store([*images, ImageError("damaged", ""), images[0][:4, :4]])
    run(store, cache=tmp_path, progress=lambda *state: said.append(state))
    assert said[0] == ("features", 41, 72, "")  # 40 known, 1 unreadable
    assert said[-1] == ("features", 72, 72, "2 skipped")
    assert [state[1] for state in said] == sorted(state[1] for state in said)


def test_keys_tell_pixels_from_files_and_shapes_apart() -> None:
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    keys = {content_key(pixels), content_key(pixels.reshape(16, 8, 3)), content_key(pixels.tobytes())}
    assert len(keys) == 3
    assert content_key(pixels[::-1]) == content_key(pixels)  # not contiguous, the same pixels
    assert all(len(key) == 32 for key in keys)


def test_real_photos_cached_and_not(real_images: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = parquet.ParquetFile(real_images / "cifar10" / "cifar10_jpeg.parquet")
    from anglehash.data.dataset import Encoded

    store = Encoded(next(file.iter_batches(40, columns=["image"])).column("image"))
    backbone = make_backbone("tiny", size=16, pretrained=False)
    plain = extract(store, backbone)
    assert len(plain.rows) == 40
    for _ in range(2):
        np.testing.assert_array_equal(extract(store, backbone, cache=tmp_path).values, plain.values)
    few = extract(store, backbone, rows=np.array([3, 30]), cache=tmp_path)
    np.testing.assert_array_equal(few.values, plain.values[[3, 30]])
