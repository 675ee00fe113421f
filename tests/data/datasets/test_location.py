"""Finding and fetching: against a server on this machine, never the official ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from anglehash.data.datasets._location import DatasetFolder, Remote, fetch
from anglehash.data.sources.open import SETS
from anglehash.errors import DataError
from anglehash.files import cache_dir

DATA = b"a published file" * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/gone.bin":
            self.send_error(404)
            return
        body = {"/short.bin": DATA[:100], "/long.bin": DATA + b"more"}.get(self.path, DATA)
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def remote(address: str, name: str, data: bytes = DATA) -> Remote:
    return Remote(url=f"{address}/{name}", sha256=hashlib.sha256(data).hexdigest(), size=len(data))


def folder_of_set(*remotes: Remote, also: tuple[Path, ...] = ()) -> DatasetFolder:
    return DatasetFolder(
        name="a-set", folder="a_set", files=("set.bin", "set.parquet"), remotes=remotes, also=also
    )


def test_a_file_is_fetched_whole(address: str, tmp_path: Path) -> None:
    fetch(remote(address, "set.bin"), tmp_path / "new")
    assert (tmp_path / "new" / "set.bin").read_bytes() == DATA


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("short.bin", DATA, "sent another file"),
        ("long.bin", DATA[:-1], "sent another file"),
        ("set.bin", DATA[:-1] + b"!", "sent another file"),
        ("gone.bin", DATA, "cannot be fetched .*404"),
    ],
)
def test_anything_else_leaves_nothing_behind(
    address: str, tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        fetch(remote(address, name, data), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_message_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with pytest.raises(DataError, match=f"cannot be fetched .*put it in {tmp_path}"):
        fetch(remote("http://127.0.0.1:9", "set.bin"), tmp_path)


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANGLEHASH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ANGLEHASH_CACHE", str(tmp_path / "cache"))
    a_set = folder_of_set(also=(tmp_path / "debian",))
    places = [tmp_path / "data" / "a_set", tmp_path / "cache" / "sets" / "a-set", tmp_path / "debian"]
    for place in reversed(places):
        place.mkdir(parents=True)
        (place / "set.parquet").write_bytes(b"")
        assert a_set.find(None, download=False) == place / "set.parquet"
    (places[0] / "set.bin").write_bytes(b"")
    assert a_set.find(None, download=False) == places[0] / "set.bin"


def test_a_named_root_is_the_only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "a_set").mkdir(parents=True)
    (tmp_path / "data" / "a_set" / "set.bin").write_bytes(b"")
    monkeypatch.setenv("ANGLEHASH_DATA", str(tmp_path / "data"))
    assert folder_of_set().find(tmp_path / "data", download=False).parent.name == "a_set"
    with pytest.raises(DataError, match="a-set is not here"):
        folder_of_set().find(tmp_path / "elsewhere", download=False)


def test_an_absent_set_names_files_places_and_the_way_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANGLEHASH_DATA", raising=False)
    with pytest.raises(DataError) as caught:
        folder_of_set(remote("https://example.org/x", "set.bin")).find(None, download=False)
    for part in ("set.bin or set.parquet", str(cache_dir()), "a_set/", "--download", "https://example.org/x"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match="no official address"):
        folder_of_set().find(tmp_path, download=True)


def test_download_fetches_only_what_is_absent(address: str, tmp_path: Path) -> None:
    a_set = folder_of_set(remote(address, "other.bin"), remote(address, "set.bin"))
    assert a_set.find(tmp_path, download=True) == tmp_path / "set.bin"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.bin", "set.bin"]
    (tmp_path / "other.bin").unlink()
    assert a_set.find(tmp_path, download=True) == tmp_path / "set.bin"
    assert not (tmp_path / "other.bin").exists()


def test_without_download_nothing_is_asked_of_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "anglehash.data.datasets._location.urlopen", lambda *a, **k: pytest.fail("went online")
    )
    for name in SETS:
        if name != "digits":
            with pytest.raises(DataError):
                SETS[name].load(tmp_path)


def test_official_addresses_are_encrypted_and_checked() -> None:
    remotes = [r for module in SETS.values() if hasattr(module, "FOLDER") for r in module.FOLDER.remotes]
    assert remotes
    for one in remotes:
        assert one.url.startswith("https://")
        assert len(bytes.fromhex(one.sha256)) == 32
