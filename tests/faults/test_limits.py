"""File systems that cannot map files, and little memory: the same answers, within the limit or with a warning."""

from __future__ import annotations

import errno
import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store import segments
from anglehash.gallery.store import writer as writing
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify

LIMIT = 512 * 2**20

UNDER_A_LIMIT = """
import json, resource, sys
from pathlib import Path
path, limit = Path(sys.argv[1]), int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
import numpy as np
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.store.items import Item
from anglehash.gallery.store.opening import open_writer
from anglehash.gallery.store.verify import verify
from anglehash.gallery.store.writer import Changes

with open_writer(path) as writer:
    writer.commit(Changes([Item("later", bytes(8))]))
gallery = Gallery.open(path)
queries = gallery.codes[:1000].copy()
gallery.search(queries, 1)  # enough that tables are built
hits = [found[0].id for found in gallery.search(queries, 1)]
assert verify(path) == []
(peak,) = [int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps({"hits": hits, "peak": peak, "numba": "numba" in sys.modules}))
"""


class Refused(mmap.mmap):
    """What a file system says that has no mapped files."""

    def __new__(cls, *given: Any, **options: Any) -> Refused:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))


def test_a_file_system_that_cannot_map_files(
    empty: Path,
    script: Any,
    held: Callable[[Path], dict[str, bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    story = script(3)
    monkeypatch.setattr(writing, "TAIL", 0)  # each writer leaves a segment
    for number in (1, 2):
        with open_writer(empty) as writer:
            writer.commit(story.commit(number))
        monkeypatch.setattr(mmap, "mmap", Refused)
        assert held(empty) == story.after(number)
        assert verify(empty) == []
    with Gallery.open(empty) as gallery:
        assert gallery.codes.tobytes() == b"".join(story.after(2).values())
    (name,) = [path for path in (empty / "1" / "codes").iterdir() if path.stat().st_size]
    damaged = bytearray(name.read_bytes())
    damaged[-1] ^= 1
    facts = {"name": name.name, "sha256": "0" * 64, "count": 0}
    name.write_bytes(damaged)
    with pytest.raises(Exception, match="is damaged"):  # compared with its hash like a mapped one
        segments.read_segment(name.parent, facts, 16)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit counts other things elsewhere")
def test_half_a_gigabyte_is_enough(tmp_path: Path, trials: Any) -> None:
    """Opening, adding, building, searching and verifying; a million items in the long mode."""
    count = len(trials(5_000, 1_000_000))
    codes = np.random.default_rng(0).integers(0, 256, (count, 8), dtype=np.uint8)
    path, ids = tmp_path / "g", [f"{number:07d}" for number in range(count)]
    Gallery.create(path, codes=codes, ids=ids, labels=[("x",)] * count, bits=64, model_id="m").close()
    done = subprocess.run(
        [sys.executable, "-c", UNDER_A_LIMIT, str(path), str(LIMIT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    reported = json.loads(done.stdout)
    assert reported["hits"] == ids[:1000]
    assert reported["numba"]  # built under the limit
    assert reported["peak"] < LIMIT
    print(f"{count} items: {reported['peak'] >> 20} MiB at most")
