from __future__ import annotations

import io
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from anglehash.data.datasets.cifar10 import CLASS_NAMES, load
from anglehash.errors import DataError

BATCHES = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]


def text(data: bytes) -> bytes:
    """A ``str`` as Python 2 pickles it."""
    return b"T" + struct.pack("<i", len(data)) + data


def python2_batch(
    pixels: NDArray[np.uint8], labels: list[int], dtype: bytes = b"u1", by_columns: bytes = b"\x89"
) -> bytes:
    """A batch as the official files have it: protocol 2, written by Python 2 and its NumPy."""
    n, m = pixels.shape
    shape = b"(J" + struct.pack("<i", n) + b"J" + struct.pack("<i", m) + b"t"
    kind = (
        b"cnumpy\ndtype\n("
        + text(dtype)
        + b"K\x00K\x01tR(K\x03"
        + text(b"|")
        + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    )
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00t" + text(b"b") + b"tR"
    state = b"(K\x01" + shape + kind + by_columns + text(pixels.tobytes()) + b"tb"
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return (
        b"\x80\x02}(" + text(b"batch_label") + text(b"a batch") + text(b"labels") + numbers
        + text(b"data") + array + state + text(b"filenames") + b"](" + text(b"x.png") + b"eu."
    )  # fmt: skip


@pytest.fixture
def batches() -> dict[str, bytes]:
    """Six batches of two images; every byte of an image is its number."""
    return {
        name: python2_batch(np.repeat(np.array([[2 * i], [2 * i + 1]], np.uint8), 3072, axis=1), [i, 9 - i])
        for i, name in enumerate(BATCHES)
    }


def folder(root: Path, batches: dict[str, bytes]) -> Path:
    (root / "cifar-10-batches-py").mkdir()
    for name, data in batches.items():
        (root / "cifar-10-batches-py" / name).write_bytes(data)
    (root / "cifar-10-batches-py" / "batches.meta").write_bytes(b"not read")
    return root


def archive(root: Path, batches: dict[str, bytes]) -> Path:
    with tarfile.open(root / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name, data in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return root


@pytest.mark.parametrize("pack", [folder, archive])
@pytest.mark.parametrize("backwards", [False, True])
def test_official_files(tmp_path: Path, batches: dict[str, bytes], pack: object, backwards: bool) -> None:
    assert callable(pack)
    root = pack(tmp_path, dict(reversed(batches.items())) if backwards else batches)
    data = load(root)
    assert data.parts.tolist() == ["train"] * 10 + ["test"] * 2
    assert data.labels.argmax(axis=1).tolist() == [0, 9, 1, 8, 2, 7, 3, 6, 4, 5, 5, 4]
    assert [int(np.unique(data.images.read(row)).item()) for row in range(12)] == list(range(12))
    assert data.ids[0] == "cifar10/train/0"
    assert data.ids[11] == "cifar10/test/1"


def test_pixels_are_rows_of_planes(tmp_path: Path, batches: dict[str, bytes]) -> None:
    planes = np.arange(2 * 3072).reshape(2, 3072).astype(np.uint8)
    batches["data_batch_1"] = python2_batch(planes, [0, 1])
    image = load(folder(tmp_path, batches)).images.read(1)
    assert isinstance(image, np.ndarray)
    assert image.shape == (32, 32, 3)
    for y, x, colour in [(0, 0, 0), (0, 31, 0), (5, 7, 2), (31, 31, 1)]:
        assert image[y, x, colour] == planes[1, colour * 1024 + y * 32 + x]


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]


HOSTILE = {
    "os.system": b"cos\nsystem\n(" + text(b"touch pwned") + b"tR.",
    "builtins": b"c__builtin__\neval\n(" + text(b"open('pwned', 'w')") + b"tR.",
    "numpy": b"cnumpy.testing._private.utils\nruncode\n(" + text(b"open('pwned', 'w')") + b"tR.",
    "another numpy name": b"cnumpy\nfromfile\n(" + text(b"/etc/passwd") + b"tR.",
    "an attribute of a known name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pwned\n.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_refused(
    tmp_path: Path, batches: dict[str, bytes], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    batches["data_batch_3"] = HOSTILE[name]
    with pytest.raises(DataError, match="data_batch_3 is not a CIFAR-10 batch"):
        load(folder(tmp_path, batches))
    assert [p.name for p in tmp_path.iterdir()] == ["cifar-10-batches-py"]


def test_a_pickle_of_this_python_is_refused_before_it_acts(tmp_path: Path, batches: dict[str, bytes]) -> None:
    evil = pickle.dumps({b"data": Evil(tmp_path / "pwned"), b"labels": [0]})
    assert pickle.loads(evil)  # it does act when it is merely loaded
    assert (tmp_path / "pwned").exists()
    (tmp_path / "pwned").unlink()
    with pytest.raises(DataError, match="it asks for"):
        load(folder(tmp_path, batches | {"test_batch": evil}))
    assert not (tmp_path / "pwned").exists()


def test_every_cut_of_a_batch_is_refused(tmp_path: Path, batches: dict[str, bytes]) -> None:
    root = folder(tmp_path, batches)
    path, whole = root / "cifar-10-batches-py" / "test_batch", batches["test_batch"]
    for end in range(0, len(whole) - 1, 211):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError, match="test_batch is not a CIFAR-10 batch"):
            load(root)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (python2_batch(np.zeros((2, 3072), np.uint8), [0, 10]), "labels are 0 to 9"),
        (python2_batch(np.zeros((2, 3072), np.uint8), [0]), "cannot reshape"),
        (python2_batch(np.zeros((2, 3000), np.uint8), [0, 1]), "cannot reshape"),
        (python2_batch(np.zeros((2, 3072), np.uint8), [0, 1], b"O8"), "rows of uint8"),
        (python2_batch(np.zeros((2, 3072), np.uint8), [0, 1], by_columns=b"\x88"), "rows of uint8"),
    ],
)
def test_wrong_batches(tmp_path: Path, batches: dict[str, bytes], batch: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(folder(tmp_path, batches | {"data_batch_2": batch}))


def test_an_absent_batch_is_named(tmp_path: Path, batches: dict[str, bytes]) -> None:
    del batches["data_batch_4"]
    with pytest.raises(DataError, match="has no data_batch_4"):
        load(archive(tmp_path, batches))


def test_a_damaged_archive_is_named(tmp_path: Path, batches: dict[str, bytes]) -> None:
    path = archive(tmp_path, batches) / "cifar-10-python.tar.gz"
    whole = path.read_bytes()
    for data in (b"", b"junk" * 100, whole[: len(whole) // 2], whole[:30] + b"\xff" * 20 + whole[50:]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz"):
            load(tmp_path)


def test_nothing_is_extracted(tmp_path: Path, batches: dict[str, bytes]) -> None:
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        for name in ("../outside", "/tmp/outside", "cifar-10-batches-py/notes"):
            tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(DataError, match="has no data_batch_1"):
        load(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["cifar-10-python.tar.gz"]


def test_the_jpeg_copy(real_images: Path) -> None:
    data = load(real_images)
    assert len(data) == 60_000
    assert (data.parts[:50_000] == "train").all()
    assert (data.parts[50_000:] == "test").all()
    assert data.labels.sum(axis=0).tolist() == [6_000] * 10
    assert data.ids[0] == "train/frog/0000.jpg"
    assert data.class_names == CLASS_NAMES
    assert all(
        name.split("/")[1] == CLASS_NAMES[c] for name, c in zip(data.ids, data.labels.argmax(1), strict=True)
    )
    assert data.images.read(59_999).startswith(b"\xff\xd8\xff")  # type: ignore[union-attr]
