"""``anglehash serve``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from anglehash.cli.console import PATH, json_option
from anglehash.cli.options import in_bytes
from anglehash.errors import MissingExtraError
from anglehash.index import DEFAULT


@click.command("serve")
@click.argument("gallery")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", type=int, default=8000, show_default=True, help="Port; 0 takes a free one.")
@click.option("--api-key-file", type=PATH, help="File with lines read:KEY and write:KEY.")
@click.option(
    "--allow-host", multiple=True, help="Another name that clients use for this service; repeatable."
)
@click.option(
    "--body-limit", default="8M", show_default=True, callback=in_bytes, help="Size of an image to search by."
)
@click.option(
    "--upload-limit",
    default="256M",
    show_default=True,
    callback=in_bytes,
    help="Size of images added at once.",
)
@click.option("--header-timeout", type=float, default=10.0, show_default=True, help="Seconds for headers.")
@click.option("--body-timeout", type=float, default=30.0, show_default=True, help="Seconds for a body.")
@click.option("--drain", type=float, default=10.0, show_default=True, help="Seconds to finish after SIGTERM.")
@click.option("--queue", type=int, default=64, show_default=True, help="Images that may wait to be encoded.")
@click.option("--workers", type=int, default=2, show_default=True, help="Processes that decode query images.")
@click.option(
    "--decode-timeout", type=float, default=2.0, show_default=True, help="Seconds to decode a query image."
)
@click.option("--rate-limit", type=float, help="Requests a second for each client.")
@click.option("--engine", default=DEFAULT, show_default=True, help="Search engine.")
@click.option("--uploads", type=PATH, help="Folder for added images.  [default: GALLERY.uploads]")
@click.option(
    "--upload-quota", callback=in_bytes, help="Size of all added images together.  [default: no limit]"
)
@click.option("--root-path", default="", help="Path below which a proxy shows this service, such as /photos.")
@click.option("--trust-proxy", "trust_proxies", multiple=True,
              help="Address of a proxy whose X-Forwarded-For and -Proto are believed; repeatable.")  # fmt: skip
@json_option
def command(
    gallery: str, api_key_file: Path | None, allow_host: tuple[str, ...], as_json: bool, **options: Any
) -> None:
    """Serve GALLERY over HTTP: a page for people at /, and /v1/ for programs.

    Without --api-key-file everybody on this machine may search, and nobody may add or remove items.

    \b
    Example:
        anglehash serve gallery/
    """
    try:
        import cachetools  # noqa: F401
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(error.name or "fastapi", extra="serve") from error
    from anglehash.gallery.target import shown
    from anglehash.server.auth import Keys
    from anglehash.server.run import run
    from anglehash.server.settings import Settings

    keys = Keys.read(api_key_file) if api_key_file else Keys()
    settings = Settings(keys=keys, allow_hosts=allow_host, **options)

    def started(address: str) -> None:
        click.echo(f"{shown(gallery)} is served at {address}", err=True)
        if as_json:
            click.echo(json.dumps({"gallery": shown(gallery), "address": address}))

    run(gallery, settings, started=started)
