"""51: requests made up from the OpenAPI document, right and wrong ones: no unhandled 5xx, answers as documented."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from anglehash.server.auth import Keys
from tests.server.conftest import WRITE, Running, serving

schemathesis = pytest.importorskip("schemathesis")

from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import (  # noqa: E402
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def open_to_all(gallery: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    own = tmp_path_factory.mktemp("schema") / "own"
    shutil.copytree(gallery, own)
    with serving(own, keys=keys) as running:
        yield running


@pytest.fixture(scope="module")
def api(open_to_all: Running) -> Any:
    document = open_to_all.client.get("/openapi.json").json
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=f"http://127.0.0.1:{open_to_all.client.port}")
    return schema


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode), ids=lambda mode: mode.value)
def test_no_request_is_unhandled(api: Any, mode: Any) -> None:
    count = 0
    for found in api.get_all_operations():
        operation = found.ok()

        @settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
        @given(case=operation.as_strategy(generation_mode=mode))
        def every_answer_is_documented(case: Any) -> None:
            case.call_and_validate(headers={"Authorization": f"Bearer {WRITE}"}, checks=CHECKS)

        count += 1
        with suppress(Unsatisfiable) if mode.is_negative else nullcontext():  # nothing to get wrong
            every_answer_is_documented()
    assert count == 15


def test_the_document_names_every_path(open_to_all: Running) -> None:
    document = open_to_all.client.get("/openapi.json").json
    assert set(document["paths"]) == {
        "/healthz", "/readyz", "/metrics", "/v1/gallery", "/v1/gallery/health", "/v1/gallery/bits", "/v1/search",
        "/v1/search/batch", "/v1/items", "/v1/items/{key}", "/v1/items/{key}/thumbnail",
        "/v1/items/{key}/original", "/v1/jobs/{name}",
    }  # fmt: skip
    for path in ("/docs", "/redoc"):  # they would load from elsewhere
        assert open_to_all.client.get(path).status == 404 or open_to_all.client.get(path).status == 401
