"""A service of a gallery in an engine: who has the key for writing adds and removes there."""

from __future__ import annotations

from pathlib import Path

from anglehash.gallery.build import Images, build
from anglehash.gallery.target import Target
from anglehash.remote.gallery import RemoteGallery
from anglehash.remote.transfer import push
from anglehash.server.auth import Keys
from tests.server.conftest import WRITE, file_part, picture, serving, text_part, until
from tests.server.conftest import keys as keys


def test_images_are_added_and_removed_over_http(
    model: Path, tmp_path: Path, postgres: str, keys: Keys
) -> None:
    target, photos = f"postgres:{postgres}#service", tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        (photos / f"{number}.jpg").write_bytes(picture(number))
    build(model, Images(data=str(photos)), tmp_path / "g")
    push(tmp_path / "g", Target.parse(target))
    with serving(target, keys=keys, uploads=tmp_path / "uploads") as running:
        client = running.client.with_key(WRITE)
        (hit,) = client.image(picture(1), k="1").json["results"]
        assert client.get(hit["thumbnail"]).status == 200  # its file is on this machine
        added = client.form("/v1/items", file_part(picture(9)), file_part(b"no"), text_part("labels", "new"))
        assert added.status == 202
        job = until(
            lambda: (found := client.get(added.json["url"]).json)["state"] in ("done", "failed") and found
        )
        assert (job["state"], job["added"]) == ("done", 1), job
        (item,) = client.get("/v1/items?label=new").json["results"]
        assert client.get(item["thumbnail"]).status == 200
        assert client.send("DELETE", item["item"]).json == {"removed": 1}
        assert client.send("DELETE", item["item"]).reason == "no-item"
        assert client.send("DELETE", hit["item"]).json == {"removed": 1}
        assert running.client.send("DELETE", hit["item"]).status == 401
        running.service.jobs._homeless = True  # as without --uploads: no place beside an engine's gallery
        assert client.form("/v1/items", file_part(picture(9))).reason == "no-uploads"
    with RemoteGallery.open(target) as there:
        assert len(there) == 2
