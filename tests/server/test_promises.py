"""Any answer 2xx holds: random operations over HTTP, with kills, two services and other models, against a plain model.

``ANGLEHASH_LONG=1`` runs many and longer sequences.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from anglehash.gallery.store.verify import verify
from anglehash.server.gallery_api import key_of
from tests.server.conftest import WRITE, Answer, Client, file_part, picture, text_part, until
from tests.server.test_jobs import name_of_upload

LONG = bool(os.environ.get("ANGLEHASH_LONG"))
IMAGES = [picture(5000 + i) for i in range(4)]
BROKEN = b"\xff\xd8\xff but no more"

images = st.integers(0, len(IMAGES) - 1)
labels = st.sampled_from(["red", "green", "blue"])


class Service:
    """``anglehash serve`` as people run it."""

    def __init__(self, gallery: Path, keys: Path) -> None:
        command = [sys.executable, "-m", "anglehash", "serve", gallery, "--port", "0", "--api-key-file", keys]
        self.process = subprocess.Popen(
            [*map(str, command), "--drain", "60", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert self.process.stdout is not None
        address = json.loads(self.process.stdout.readline())["address"]
        self.client = Client(int(address.rstrip("/").rpartition(":")[2])).with_key(WRITE)

    def end(self, number: int) -> None:
        self.process.send_signal(number)
        self.process.wait(120)
        assert self.process.stdout is not None
        self.process.stdout.close()


class Promises(RuleBasedStateMachine):
    """What may be in the gallery: of each image its labels, or ``None``; several where an answer did not come."""

    gallery: ClassVar[Path]
    models: ClassVar[list[Path]]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.own = Path(shutil.copytree(self.gallery, Path(self.folder.name, "own")))
        self.keys = Path(self.folder.name, "keys")
        self.keys.write_text(f"write:{WRITE}\n")
        self.services = [Service(self.own, self.keys)]
        self.held: list[set[str | None]] = [{None} for _ in IMAGES]
        self.jobs: list[str] = []
        self.model = self.changes = 0

    def client(self, which: int) -> Client:
        return self.services[which % len(self.services)].client

    def _send(self, which: int, image: int, label: str, replace: bool) -> Answer:
        fields = [text_part("labels", label), text_part("replace", json.dumps(replace))]
        return self.client(which).form("/v1/items", *fields, file_part(IMAGES[image]), file_part(BROKEN))

    def _accepted(self, image: int, label: str, replace: bool) -> set[str | None]:
        return {label if replace or before is None else before for before in self.held[image]}

    @rule(which=st.integers(0, 1), image=images, label=labels, replace=st.booleans())
    def upload(self, which: int, image: int, label: str, replace: bool) -> None:
        answer = self._send(which, image, label, replace)
        assert answer.status == 202
        self.held[image] = self._accepted(image, label, replace)
        self.jobs.append(answer.json["url"])

    @rule(which=st.integers(0, 1), image=images)
    def remove(self, which: int, image: int) -> None:
        def removed() -> int | None:
            answer = self.client(which).send("DELETE", f"/v1/items/{key_of(name_of_upload(IMAGES[image]))}")
            return None if answer.status == 503 else answer.status  # another one writes: it says so

        status = until(removed, 120)
        assert status in {404 if held is None else 200 for held in self.held[image]}
        self.held[image] = {None}

    @rule(which=st.integers(0, 1), image=images, label=labels, after=st.floats(0, 0.05))
    def upload_while_it_is_killed(self, which: int, image: int, label: str, after: float) -> None:
        found: list[Answer] = []

        def send() -> None:
            with suppress(OSError, HTTPException):
                found.append(self._send(which, image, label, True))

        thread = threading.Thread(target=send)
        killed = self.services[which % len(self.services)]
        thread.start()
        time.sleep(after)
        killed.end(signal.SIGKILL)
        thread.join(60)
        self.services.remove(killed)
        self.held[image] = {label} if found and found[0].status == 202 else {label, *self.held[image]}
        self.services.append(Service(self.own, self.keys))

    @rule(which=st.integers(0, 1), number=st.sampled_from([signal.SIGKILL, signal.SIGTERM]))
    def restart(self, which: int, number: int) -> None:
        ended = self.services.pop(which % len(self.services))
        ended.end(number)
        if not self.services:
            self.services.append(Service(self.own, self.keys))

    @precondition(lambda self: len(self.services) < 2)
    @rule()
    def second_service(self) -> None:
        self.services.append(Service(self.own, self.keys))

    @precondition(lambda self: self.changes < 2)  # each takes seconds
    @rule()
    def other_model(self) -> None:
        self.changes += 1
        command = [
            sys.executable,
            "-m",
            "anglehash",
            "reindex",
            self.own,
            "--model",
            self.models[1 - self.model],
        ]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert "Traceback" not in done.stderr
        if done.returncode in (0, 3):
            self.model = 1 - self.model
        else:
            assert "is being written" in done.stderr, done.stderr

    @rule(which=st.integers(0, 1))
    def all_that_was_said_is_true(self, which: int) -> None:
        client = self.client(which)

        def ended(url: str) -> Any:
            job = client.get(url).json
            return job if job["state"] == "done" else None

        for url in self.jobs:
            job = until(partial(ended, url), 120)
            assert job["done"] == job["total"] == 2
            reasons = {one["reason"] for one in job["skipped"]}
            assert reasons <= {"not-an-image", "already-there", "removed"}
            assert job["added"] + len(job["skipped"]) == 2
        uploads = self.own.with_name("own.uploads")  # jobs whose answer did not come may wait too
        until(lambda: not list((uploads / "jobs").glob("*")), 120)
        for image, may in enumerate(self.held):
            place = f"/v1/items/{key_of(name_of_upload(IMAGES[image]))}"
            answer = until(partial(_as_it_may_be, client, place, may), 10)
            held = answer.json["labels"][0] if answer.status == 200 else None
            self.held[image] = {held}
            if held is not None:
                assert client.get(f"{place}/thumbnail").status == 200
                assert client.get(f"{place}/original").body == IMAGES[image]

    def teardown(self) -> None:
        try:
            self.all_that_was_said_is_true(0)
            for service in self.services:
                service.end(signal.SIGTERM)
                assert service.process.returncode == 0
            assert verify(self.own) == []
        finally:
            for service in self.services:
                if service.process.poll() is None:
                    service.end(signal.SIGKILL)
            self.folder.cleanup()


def _as_it_may_be(client: Client, place: str, may: set[str | None]) -> Answer | None:
    """The answer, once it is one of those that may be: a service follows another's commits within a second."""
    answer = client.get(place)
    held = answer.json["labels"][0] if answer.status == 200 else None
    return answer if held in may else None


def test_every_answer_holds(gallery: Path, photos: Path, tmp_path: Path, anglehash: Any) -> None:
    train = [
        "train",
        photos,
        "-o",
        tmp_path / "other",
        "--bits",
        16,
        "--backbone",
        "tiny",
        "--image-size",
        16,
    ]
    assert anglehash(*train, "--epochs", 1, "--seed", 5).code in (0, 3)
    Promises.gallery, Promises.models = gallery, [gallery.parent / "model", tmp_path / "other"]
    run_state_machine_as_test(
        Promises,
        settings=settings(
            max_examples=100 if LONG else 2,
            stateful_step_count=30 if LONG else 9,
            deadline=None,
            derandomize=not LONG,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_machine_finds_what_is_lost(gallery: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plain model is not a yes-man: a gallery that forgets an image is noticed."""
    Promises.gallery, Promises.models = gallery, []
    machine = Promises()
    try:
        machine.upload(0, 0, "red", False)
        machine.all_that_was_said_is_true(0)
        machine.client(0).send("DELETE", f"/v1/items/{key_of(name_of_upload(IMAGES[0]))}")
        monkeypatch.setattr(
            "tests.server.test_promises.until", lambda happened, seconds=0: happened() or happened()
        )
        with pytest.raises((AssertionError, AttributeError)):
            machine.all_that_was_said_is_true(0)
        monkeypatch.undo()
        machine.held[0] = {None}
    finally:
        machine.teardown()
