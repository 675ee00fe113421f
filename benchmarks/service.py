"""The service under load: how many requests a second, how long each takes, what memory does, and who is slowed down.

    python benchmarks/service.py -o results/service.json            # about 11 minutes

A gallery of a million items of 64 bits (codes of a model, with bits flipped at random, so that they repeat and
cluster as learned ones do), its model EfficientNet-Lite0 at 128 pixels, served by ``anglehash serve`` in a
process of its own. Clients are in another process on the same machine and take a share of its cores; each waits
for its answer before it asks again. CPU time is that of the service and its decoders, and tells most where other
work takes the cores. Searches are by item, k = 20. Every client has one connection. The first
seconds are warm-up and not counted. Memory is that of the service and its decoders.

Slow senders: 500 connections that send one byte a second, of headers and of bodies in turn, beside 20 clients.
New filters: one client who asks with a filter that was never asked for, again and again, beside 20 without.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from http.client import HTTPConnection
from io import BytesIO
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from PIL import Image

from anglehash.cli.main import cli
from anglehash.data.sources.open import open_dataset
from anglehash.files import write_json
from anglehash.gallery.gallery import Gallery

BITS, WARM_UP, ROUNDS = 64, 3.0, 3
BOUNDARY = "boundary"

Make = Callable[[int], bytes]  # the number of a request -> its bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each run")
    parser.add_argument("--keep", type=Path, help="folder to keep model and gallery in, for another run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = given.keep or Path(folder)
        path = prepared(place, given.n)
        with service(path) as (pid, port):
            result = measured(pid, port, given.n, given.seconds)
    result["circumstances"] = circumstances(given)
    write_json(given.out, result)


def prepared(folder: Path, n: int) -> Path:
    """A gallery of ``n`` items with its model, made if it is not there."""
    path, model = folder / f"gallery-{n}", folder / "model"
    if path.exists():
        return path
    if not model.exists():
        train = ["train", "digits", "-o", model, "--bits", BITS, "--backbone", "efficientnet_lite0"]
        run_cli([*train, "--size", 128, "--epochs", 2])
    if not (folder / "small").exists():
        run_cli(["index", model, "digits", "-o", folder / "small"])
    with Gallery.open(folder / "small") as small:
        rng = np.random.default_rng(0)
        rows = rng.integers(0, len(small), n)
        codes = small.codes[rows].copy()
        for start in range(0, n, 65_536):
            flips = rng.random((len(codes[start : start + 65_536]), BITS)) < 0.03
            codes[start : start + 65_536] ^= np.packbits(flips, axis=1)
        names = [f"photos/{row // 1000:05d}/{row:09d}.jpg" for row in range(n)]
        labels = [small.labels[row] for row in rows] if n < 10_000 else [(str(row % 100),) for row in rows]
        Gallery.create(
            path, codes=codes, ids=names, labels=labels, bits=BITS, model_id=small.model_id, model=model
        ).close()
    return path


def run_cli(arguments: list[object]) -> None:
    cli.main([str(argument) for argument in arguments], standalone_mode=False)


@contextmanager
def service(path: Path) -> Iterator[tuple[int, int]]:
    """``anglehash serve`` in a process of its own: its number and its port."""
    command = [sys.executable, "-m", "anglehash", "serve", str(path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as started:
        assert started.stderr is not None
        line = started.stderr.readline()
        found = re.search(r":(\d+)/\s*$", line)
        if found is None:
            raise SystemExit(line)
        log = started.stderr  # a pipe that nobody reads fills up, and then stops who writes
        threading.Thread(target=lambda: sys.stderr.writelines(log), daemon=True).start()
        try:
            yield started.pid, int(found[1])
        finally:
            started.send_signal(signal.SIGTERM)
            started.wait(30)


def measured(pid: int, port: int, n: int, seconds: float) -> dict[str, Any]:
    """All runs."""
    by_item = lambda number: as_json({"id": name_of(number, n), "k": 20})  # noqa: E731
    small, large = photo(500, 375), photo(4032, 3024)
    by_image = lambda number: as_form(small)  # noqa: E731
    result: dict[str, Any] = {"items": n, "runs": []}
    for what, make, counts in (("item", by_item, (1, 20, 200)), ("image 500x375", by_image, (1, 20, 200))):
        for clients in counts:
            record = load(pid, port, make, clients, seconds)
            result["runs"].append({"query": what, **record})
            print(json.dumps(result["runs"][-1]), flush=True)
    record = load(pid, port, lambda number: as_form(large), 1, seconds / 3)
    result["runs"].append({"query": "image 4032x3024", "bytes": len(large), **record})
    print(json.dumps(result["runs"][-1]), flush=True)
    for what, run in (("slow senders", slow_senders), ("new filters", new_filters)):
        result[what] = run(pid, port, by_item, seconds / 3)
        print(json.dumps(result[what]), flush=True)
    return result


def slow_senders(pid: int, port: int, make: Make, seconds: float) -> dict[str, Any]:
    """20 clients alone and beside 500 slow senders, in turn, so that what else the machine does falls on both."""
    rounds = []
    for _ in range(ROUNDS):
        alone = load(pid, port, make, 20, seconds)
        slow = multiprocessing.get_context("spawn").Process(
            target=drip_all, args=(port, 500, seconds + 2 * WARM_UP)
        )
        slow.start()
        time.sleep(WARM_UP)
        rounds.append({"alone": alone, "beside": load(pid, port, make, 20, seconds)})
        slow.join()
    return {"rounds": rounds, **compared(rounds)}


def new_filters(pid: int, port: int, make: Make, seconds: float) -> dict[str, Any]:
    """20 clients alone, and beside one who searches with filters that nobody asked for before, one after the other."""
    alone = load(pid, port, make, 20, seconds)
    context = multiprocessing.get_context("spawn")
    took = context.Queue()
    filtering = context.Process(target=filter_on, args=(port, seconds + WARM_UP, took))
    filtering.start()
    beside = load(pid, port, make, 20, seconds)
    times = took.get()
    filtering.join()
    rounds = [{"alone": alone, "beside": beside}]
    return {"rounds": rounds, **compared(rounds), "filter_s": [round(one, 2) for one in times]}


def filter_on(port: int, seconds: float, took: Any) -> None:
    """Search with new filters by path, and give the seconds that each took."""
    times, end = list[float](), time.perf_counter() + seconds
    with closing(HTTPConnection("127.0.0.1", port)) as connection:
        while time.perf_counter() < end:
            pattern = f"photos/?*{len(times):03d}*"  # SQL cannot say all of it: each name is looked at
            request = {"id": name_of(0, 1), "k": 20, "filter": {"path": pattern}}
            began = time.perf_counter()
            connection.request(
                "POST", "/v1/search", json.dumps(request), {"Content-Type": "application/json"}
            )
            connection.getresponse().read()
            times.append(time.perf_counter() - began)
    took.put(times)


def compared(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the rounds."""
    p99 = {which: [one[which]["p99_ms"] for one in rounds] for which in ("alone", "beside")}
    ratios = [b / a for a, b in zip(p99["alone"], p99["beside"], strict=True)]
    return {
        "p99_ms_alone": round(float(np.median(p99["alone"])), 2),
        "p99_ms_beside": round(float(np.median(p99["beside"])), 2),
        "p99_ratio": round(float(np.median(ratios)), 2),
        "p99_ratios": [round(ratio, 2) for ratio in ratios],
    }


def load(pid: int, port: int, make: Make, clients: int, seconds: float) -> dict[str, Any]:
    """Run ``clients`` clients for ``seconds``."""
    return asyncio.run(_load(pid, port, make, clients, seconds))


async def _load(pid: int, port: int, make: Make, clients: int, seconds: float) -> dict[str, Any]:
    times: list[tuple[float, float, int]] = []  # when, how long, status
    shares: list[tuple[float, float, float]] = []
    memory: list[int] = []
    end = time.perf_counter() + WARM_UP + seconds
    begin = time.perf_counter() + WARM_UP
    numbers = iter(range(10**9))
    before = cpu_seconds(family(pid))

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() < end:
            request = make(next(numbers))
            started = time.perf_counter()
            writer.write(request)
            status, head = await answer_of(reader)
            done = time.perf_counter()
            if started >= begin:
                times.append((done, done - started, status))
                if found := re.search(
                    rb"decode;dur=([\d.]+), network;dur=([\d.]+), search;dur=([\d.]+)", head
                ):
                    shares.append((float(found[1]), float(found[2]), float(found[3])))
            if status == 503:
                await asyncio.sleep(1)  # as Retry-After asks
        writer.close()

    async def watch() -> None:
        while True:
            memory.append(sum(map(resident, family(pid))))
            await asyncio.sleep(1)

    watching = asyncio.create_task(watch())
    await asyncio.gather(*(client() for _ in range(clients)))
    watching.cancel()
    record = record_of(clients, seconds, times, shares, memory)
    computed = cpu_seconds(family(pid)) - before
    return record | {"cpu_ms_per_request": round(1e3 * computed / max(1, next(numbers)), 2)}


def record_of(
    clients: int,
    seconds: float,
    times: list[tuple[float, float, int]],
    shares: list[tuple[float, float, float]],
    memory: list[int],
) -> dict[str, Any]:
    answered = np.array([1e3 * took for _, took, status in times if status == 200] or [np.nan])
    half = memory[len(memory) // 2 :]
    record = {
        "clients": clients,
        "seconds": seconds,
        "statuses": dict(Counter(status for *_, status in times)),
        "per_second": round(int(np.isfinite(answered).sum()) / seconds, 1),
        **{f"p{q}_ms": round(float(np.percentile(answered, q)), 2) for q in (50, 95, 99)},
        "memory_mb": round(memory[-1] / 1e6, 1),
        "memory_growth_last_half": round(half[-1] / half[0] - 1, 4),
        "load_average": round(os.getloadavg()[0], 1),
    }
    if shares:
        parts = dict(
            zip(("decode", "network", "search"), np.median(np.array(shares), axis=0).tolist(), strict=True)
        )
        parts["all else"] = record["p50_ms"] - sum(parts.values())
        record["median_ms_of"] = {name: round(took, 1) for name, took in parts.items()}
    return record


async def answer_of(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """The status and the headers of an answer, which is read to its end."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    assert length is not None, head
    await reader.readexactly(int(length[1]))
    return int(head[9:12]), head


def as_json(value: Any) -> bytes:
    body = json.dumps(value).encode()
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body


def as_form(image: bytes) -> bytes:
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="q.jpg"\r\n\r\n'.encode()
    body = start + image + f"\r\n--{BOUNDARY}--\r\n".encode()
    head = (
        "POST /v1/search HTTP/1.1\r\nHost: localhost\r\n"
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def photo(width: int, height: int) -> bytes:
    """A JPEG with the detail of a photograph, of what the gallery shows: a scan, enlarged, with noise."""
    dataset = open_dataset("digits")
    scan = Image.fromarray(np.asarray(dataset.images.read(7))).convert("RGB")
    pixels = np.asarray(scan.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    pixels = pixels + np.random.default_rng(0).normal(0, 6, pixels.shape)
    stream = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, "JPEG", quality=88)
    return stream.getvalue()


def name_of(number: int, n: int) -> str:
    row = number * 7919 % n
    return f"photos/{row // 1000:05d}/{row:09d}.jpg"


def drip_all(port: int, count: int, seconds: float) -> None:
    """Slow senders; those that are cut off come again."""
    asyncio.run(_drip_all(port, count, seconds))


async def _drip_all(port: int, count: int, seconds: float) -> None:
    end = time.perf_counter() + seconds
    whole = as_form(b"x" * 100_000)
    body = whole.index(b"\r\n\r\n") + 4

    async def drip(number: int) -> None:
        while time.perf_counter() < end:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                place = body if number % 2 else 20
                writer.write(whole[:place])
                while time.perf_counter() < end and not writer.is_closing():
                    writer.write(whole[place : place + 1])
                    await writer.drain()
                    place += 1
                    await asyncio.sleep(1)
                writer.close()
            except OSError:
                await asyncio.sleep(1)

    await asyncio.gather(*map(drip, range(count)))


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        tasks = Path(f"/proc/{pid}/task").iterdir()
        children = [child for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        children = []
    return [pid, *map(int, children)]


def cpu_seconds(pids: list[int]) -> float:
    """The seconds that processes have computed for."""
    ticks = 0
    for pid in pids:
        with suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def resident(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def circumstances(given: argparse.Namespace) -> dict[str, Any]:
    from importlib.metadata import version

    names = ("anglehash", "fastapi", "uvicorn", "h11", "numpy", "pillow", "onnxruntime", "torch")
    return {
        "command": f"python benchmarks/service.py -o {given.out} --n {given.n} --seconds {given.seconds:g}",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "versions": {name: version(name) for name in names},
        "note": "cores shared with other work: see load_average of each run",
    }


if __name__ == "__main__":
    main()
