"""The application: routes, the page, what becomes of errors, and the middleware around them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from anglehash.errors import AnglehashError
from anglehash.gallery.store.layout import library
from anglehash.server.errors import RefusalError, problem, refusal_of
from anglehash.server.middleware import Middleware
from anglehash.server.requests import first_fault
from anglehash.server.responses import ProblemAnswer
from anglehash.server.routes import ROUTER
from anglehash.server.service import Service
from anglehash.server.settings import PAGE


def make_app(service: Service) -> ASGIApp:
    """The application of a service."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(service.follow())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following

    app = FastAPI(
        title="anglehash", version=library().split()[-1], docs_url=None, redoc_url=None, lifespan=lifespan,
        summary="Search a gallery of images by example.", servers=[{"url": "."}],
        responses={"default": {"model": ProblemAnswer, "description": "Refused", "content": _PROBLEM}},
    )  # fmt: skip
    app.state.service = service
    app.include_router(ROUTER)
    app.mount("/static", StaticFiles(directory=PAGE, check_dir=False), name="static")
    for kind in (RefusalError, AnglehashError, OSError, Exception):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(HTTPException, _not_found)
    app.add_exception_handler(RequestValidationError, _invalid)
    guard = Middleware(app, service.settings, service.metrics, lambda: service.draining)
    trusted = list(service.settings.trust_proxies)
    return cast(ASGIApp, ProxyHeadersMiddleware(cast(Any, guard), trusted)) if trusted else guard


_PROBLEM: dict[str, Any] = {
    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemAnswer"}}
}


async def _refused(request: Request, error: Exception) -> Response:
    return problem(refusal_of(error))


async def _not_found(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it is registered for these"
    reason = {404: "no-such-path", 405: "no-such-method"}.get(error.status_code, "refused")
    return problem(
        RefusalError(error.status_code, reason, str(error.detail), headers=dict(error.headers or {}))
    )


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError), "it is registered for these"
    return problem(RefusalError(422, "invalid", first_fault(error.errors())))
