"""What training costs as images and classes grow: losses over pairs and triplets against class-wise ones.

    python benchmarks/cost.py -o results/cost.json --svg docs/cost.svg

Three sweeps on the cached features of a frozen backbone (EfficientNet-Lite0, 128 px), from the official training
images: CIFAR-10, 1,000 to 47,500 images of 10 classes; Tiny-ImageNet, 2,000 images of 10 to 200 classes; and
100 images a class of 10 to 200 classes. Every method has a linear head without batch norm, 32 bits, batches
of 128 and its default settings otherwise; ``dpsh`` is run as published, a batch against all training images,
and with its default, 2,000 drawn at each step.

Every method is trained for 1, 2, 4 ... 32 epochs, each a whole one-cycle schedule, as far as a run sees 50,000
images or is one of the first two. 500 validation images are then searched for among 2,000 others; both are the
same for all methods and never train. The cost of an mAP is the CPU seconds of the cheapest run that *ends* there
or above. Two mAP are asked for: 98 % of the weakest method's best, which all reach, and 90 % of the best method's
best (95 % was tried first: on CIFAR-10 only csq gets there). Only training is timed, in a process of its own;
memory is its peak less what was there before, the features among it.

Result (Python 3.11, torch 2.13, x86-64, one thread, one seed, a busy machine). CPU seconds of an epoch after
the first, by images of CIFAR-10, and the exponent of its growth from 10,000 on; CPU seconds to the mAP that all
reach, .50 and .52; peak MB:

    images              1,000   10,000   47,500   exponent   to mAP: 10,000   47,500   MB: 10,000   47,500
    dpsh, all images     .057     2.02     36.1       1.85             3.47     31.1           78      333
    dpsh                 .044      .52     1.95        .84             1.28     3.46           22       30
    dsdh                 .050      .69     2.74        .89             1.35     3.44           26       82
    hashnet              .027      .20      .94       1.01              .57     1.64            5        5
    dtsh (triplets)      .040      .32     1.58       1.02              .81     2.34           11       11
    ce                   .027      .17     1.01       1.16              .44     1.45            6        6
    csq                  .020      .18      .73        .88              .26     1.45            4        6
    orthohash            .023      .17      .83        .99              .28     1.33            3        4
    andsh                .036      .30     1.47       1.02              .40     2.00            4        5

So only pairs with *all* images grow faster than the images, and then nearly as their square. Pairs and triplets
within a batch grow as class-wise losses do, and an epoch of hashnet costs less than one of andsh; a bounded
reference costs 2 to 4 times csq, at any size. Classes cost little: from 10 to 200, at 2,000 images, an epoch of
andsh takes 1.7 times as long, of ce 1.2 times, and of dtsh .64 times, since fewer triplets are left. Up to 2,000
images both forms of dpsh do the same work, and their seconds differ by up to 30 %: so uncertain is a figure.
At 200 classes the mAP is .01 to .05, and the seconds to it mean little.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import argparse
import json
import multiprocessing
import platform
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from time import process_time
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset
from anglehash.data.sources.open import open_dataset
from anglehash.files import cache_dir, write_json
from anglehash.methods.catalogue import settled
from anglehash.models.backbones import make_backbone
from anglehash.models.features import extract
from anglehash.models.heads.hash_head import logits_of
from anglehash.report.figures import COLORS, Chart, Line, inline
from anglehash.report.html import Markup, tag
from anglehash.training.fit_head import Labelled, learn_head, map_of_logits

HERE = Path(__file__).parent
QUERIES, DATABASE = 500, 2000  # validation images: kept out of training at every size
BUDGETS = (1, 2, 4, 8, 16, 32)  # epochs
MOST_VISITS = 50_000  # images seen in a run; two epochs are always run
MOST_SECONDS = 60.0  # after a run that took longer, no longer one
COMMON: dict[str, Any] = {
    "bits": 32, "likeness": 0.0, "hidden": 0, "batch_norm": False, "batch_size": 128, "seed": 0,
}  # fmt: skip
Cell = dict[str, Any]


class Method(NamedTuple):
    """A loss, what it compares, and how its line looks."""

    kind: str
    loss: str
    look: dict[str, Any]  # fields of Line
    options: dict[str, Any] = {}  # noqa: RUF012 # never changed


def look(color: str, marker: str, dash: str = "solid") -> dict[str, Any]:
    return {"color": color, "marker": marker, "dash": dash}


METHODS = {
    "dpsh, all images": Method("pairs", "dpsh", look("c0", "o"), {"reference": 0}),
    "dpsh": Method("pairs", "dpsh", look("c1", "s")),
    "dsdh": Method("pairs", "dsdh", look("c2", "D")),
    "hashnet": Method("pairs", "hashnet", look("c3", "^")),
    "dtsh": Method("triplets", "dtsh", look("faint", "v", "dotted")),
    "ce": Method("classes", "ce", look("faint", "o", "dashed")),
    "csq": Method("classes", "csq", look("c1", "s", "dashed")),
    "orthohash": Method("classes", "orthohash", look("c2", "D", "dashed")),
    "andsh": Method("classes", "andsh", look("accent", "^", "dashed")),
}


class Sweep(NamedTuple):
    """What grows: pairs of training images and classes, from small to large."""

    data: str
    columns: Sequence[tuple[int, int]]


SWEEPS = {
    "images": Sweep("cifar10", [(n, 10) for n in (1000, 2000, 5000, 10_000, 20_000, 47_500)]),
    "classes": Sweep("tiny-imagenet", [(2000, c) for c in (10, 50, 200)]),
    "images and classes": Sweep("tiny-imagenet", [(100 * c, c) for c in (10, 50, 200)]),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument(
        "-o", "--output", type=Path, required=True, help="JSON; finished cells of it are kept"
    )
    parser.add_argument("--svg", type=Path, help="also draw the charts")
    arguments = parser.parse_args()
    os.environ.setdefault("ANGLEHASH_DATA", str(HERE.parents[1] / "shared" / "data"))
    path: Path = arguments.output
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": []}
    cells: list[Cell] = kept["cells"]
    for sweep, (data, columns) in SWEEPS.items():
        for images, classes in columns:
            wanted = [c for c in wanted_cells(sweep, images, classes) if not any(same(c, d) for d in cells)]
            for cell in measured(wanted, data, images, classes):
                cells = [other for other in cells if name_of(other) != name_of(cell)] + [cell]
                kept = {"cells": cells, "circumstances": circumstances()}
                write_json(path, kept)
                print(json.dumps({k: v for k, v in cell.items() if k != "settings"}), flush=True)
    write_json(path, kept | {"summary": summary(cells)})
    print(tables(summary(cells)))
    if arguments.svg:
        arguments.svg.write_text(drawing(summary(cells)), encoding="utf-8")


def wanted_cells(sweep: str, images: int, classes: int) -> list[Cell]:
    """A column: every method at one size, its settings with it, as JSON values."""
    budgets = [epochs for epochs in BUDGETS if epochs <= 2 or epochs * images <= MOST_VISITS]
    cells = []
    for name, method in METHODS.items():
        config = settled(TrainConfig(method=method.loss, loss=method.options, **COMMON))
        cell = {"sweep": sweep, "images": images, "classes": classes, "method": name, "kind": method.kind}
        cells.append(cell | {"settings": config.to_dict() | {"epochs": budgets}})
    return cells


def same(wanted: Cell, finished: Cell) -> bool:
    return all(finished.get(key) == value for key, value in wanted.items())


def name_of(cell: Cell) -> tuple[object, ...]:
    return tuple(cell[key] for key in ("sweep", "images", "classes", "method"))


# --- one column: the data once, each method in a process of its own


def measured(wanted: list[Cell], data: str, images: int, classes: int) -> Iterator[Cell]:
    """Finish cells of one column."""
    if not wanted:
        return
    context = multiprocessing.get_context("forkserver")  # its processes have the imports, and nothing else
    context.set_forkserver_preload(["anglehash.training.fit_head"])
    with tempfile.TemporaryDirectory() as folder:
        held = write_column(Path(folder), data, images, classes)
        for cell in wanted:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                found, logits = pool.submit(train, folder, cell["settings"]).result()
            for run, (query, database) in zip(found["runs"], logits, strict=True):
                labels = held[:QUERIES], held[QUERIES:]
                run["validation_map"] = round(map_of_logits(query, database, *labels), 5)
            yield cell | found


@cache
def dataset(name: str) -> Dataset:
    return open_dataset(name)


def write_column(folder: Path, name: str, images: int, classes: int) -> NDArray[np.bool_]:
    """Draw the images of a column and write their features; the labels of the validation images."""
    source, rng = dataset(name), np.random.default_rng(0)
    chosen = rng.permutation(source.labels.shape[1])[:classes]
    inside = (np.asarray(source.parts) == "train") & source.labels[:, chosen].any(axis=1)
    rows = rng.permutation(np.flatnonzero(inside))[: QUERIES + DATABASE + images]
    assert len(rows) == QUERIES + DATABASE + images, "too few images"
    backbone = make_backbone("efficientnet_lite0", size=128)
    features = extract(source.images, backbone, rows=rows, cache=cache_dir()).values
    labels, held = source.labels[np.ix_(rows, chosen)], QUERIES + DATABASE
    np.save(folder / "held.npy", features[:held])
    np.save(folder / "train.npy", features[held:])
    np.save(folder / "labels.npy", labels[held:])
    kept: NDArray[np.bool_] = labels[:held]
    return kept


def train(folder: str, settings: Cell) -> tuple[Cell, list[tuple[NDArray[np.float32], NDArray[np.float32]]]]:
    """Train one method at one size, once for each number of epochs, and nothing else in this process.

    Returns:
        Seconds and megabytes; and for each run the logits of queries and database.
    """
    known = Labelled(*(np.load(Path(folder) / f"{name}.npy") for name in ("train", "labels")))
    few = Labelled(known.features[:256], known.labels[:256])
    learn_head(
        few, TrainConfig.from_dict(settings | {"epochs": 1})
    )  # what is done once is not a training time
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    before, heads, runs = megabytes("VmRSS"), [], []
    for epochs in settings["epochs"]:
        config = TrainConfig.from_dict(settings | {"epochs": epochs})
        started = process_time()
        heads.append(learn_head(known, config).head)
        runs.append({"epochs": epochs, "cpu_seconds": round(process_time() - started, 4)})
        if len(runs) > 1 and runs[-1]["cpu_seconds"] > MOST_SECONDS:
            break
    found = {"runs": runs, "megabytes_before": before, "megabytes_peak": megabytes("VmHWM")}
    held = np.load(Path(folder) / "held.npy")
    parts = held[:QUERIES], held[QUERIES:]
    return found, [(logits_of(head, parts[0]), logits_of(head, parts[1])) for head in heads]


def megabytes(name: str) -> float:
    """A line of Linux's account of this process. ``ru_maxrss`` would count what our parent had, too."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return round(int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024, 1)


# --- output


def summary(cells: Sequence[Cell]) -> list[Cell]:
    """A record a column: the two targets, and of each method what an epoch, memory and the targets cost."""
    found = []
    for sweep, (_, columns) in SWEEPS.items():
        for images, classes in columns:
            own = [c for c in cells if name_of(c)[:3] == (sweep, images, classes)]
            if len(own) < len(METHODS):
                continue
            best = {c["method"]: max(run["validation_map"] for run in c["runs"]) for c in own}
            targets = {"all reach": 0.98 * min(best.values()), "near the best": 0.9 * max(best.values())}
            methods = {
                c["method"]: {
                    "epoch_seconds": round(epoch_seconds(c["runs"]), 4),
                    "megabytes": round(c["megabytes_peak"] - c["megabytes_before"], 1),
                    "best_map": best[c["method"]],
                    "seconds_to": {name: seconds_to(c["runs"], target) for name, target in targets.items()},
                }
                for c in own
            }
            column = {"sweep": sweep, "images": images, "classes": classes}
            found.append(column | {"targets": targets, "methods": methods})
    return found


def epoch_seconds(runs: Sequence[Cell]) -> float:
    """CPU seconds of an epoch after the first, which has no full reference and is there in every run."""
    first, last = runs[0], runs[-1]
    seconds = float(last["cpu_seconds"]) - float(first["cpu_seconds"])
    return seconds / int(last["epochs"] - first["epochs"])


def seconds_to(runs: Sequence[Cell], target: float) -> float | None:
    """CPU seconds of the cheapest run that ends at the target or above; ``None`` where none does."""
    return min((run["cpu_seconds"] for run in runs if run["validation_map"] >= target), default=None)


def measure(record: Cell, key: str) -> float | None:
    value = record.get(key, record["seconds_to"].get(key))
    return None if value is None else float(value)


def grown(columns: Sequence[Cell], axis: str, name: str, key: str) -> list[tuple[float, float]]:
    """A method's line: (size, cost)."""
    pairs = [(float(c[axis]), measure(c["methods"][name], key)) for c in columns]
    return [(x, y) for x, y in pairs if y is not None and y > 0]


def exponent(pairs: Sequence[tuple[float, float]]) -> float:
    """The slope of log cost against log size: 1 where the cost grows as the size.

    >>> round(exponent([(1, 3), (10, 300)]), 6)
    2.0
    """
    x, y = np.log(np.array(pairs)).T
    return float(np.polyfit(x, y, 1)[0])


def slopes(pairs: Sequence[tuple[float, float]]) -> str:
    """The exponent; behind it that of the three largest sizes, if there are more."""
    text = f"{exponent(pairs):.2f}"
    return f"{text} ({exponent(pairs[-3:]):.2f})" if len(pairs) > 3 else text


def tables(columns: Sequence[Cell]) -> str:
    """Markdown: for each sweep and each cost a row a method, a column a size, and the exponent."""
    words = {
        "epoch_seconds": "CPU seconds of an epoch",
        "megabytes": "peak MB above what was there before",
        "all reach": "CPU seconds to the mAP that all reach",
        "near the best": "CPU seconds to 90 % of the best method's mAP",
        "best_map": "best validation mAP",
    }
    parts = []
    for sweep in SWEEPS:
        own = [c for c in columns if c["sweep"] == sweep]
        axis = "classes" if sweep == "classes" else "images"
        for key, text in words.items() if own else ():
            heads = [f"{c['images']:,} / {c['classes']}" for c in own]
            if key in own[0]["targets"]:
                heads = [f"{h} ({c['targets'][key]:.3f})" for h, c in zip(heads, own, strict=True)]
            rows = [[text, *heads, "exponent"], ["---"] * (len(own) + 2)]
            for name in METHODS:
                values = [measure(c["methods"][name], key) for c in own]
                slope = "" if key == "best_map" or None in values else slopes(grown(own, axis, name, key))
                rows.append([name, *("never" if v is None else f"{v:.3g}" for v in values), slope])
            parts.append("\n".join(f"| {' | '.join(row)} |" for row in rows))
    return "\n\n".join(parts)


PANELS = (  # of a sweep: what it draws, and the unit
    ("images", "epoch_seconds", "seconds", "CPU seconds of an epoch · CIFAR-10, 10 classes"),
    ("images", "all reach", "seconds", "CPU seconds to the validation mAP that all reach · the same"),
    ("images", "megabytes", "MB", "Peak memory of training, above what was there before · the same"),
    ("classes", "epoch_seconds", "seconds", "CPU seconds of an epoch · Tiny-ImageNet, 2,000 images"),
)
WIDTH, HEIGHT = 648.0, 320.0  # of a panel


def drawing(columns: Sequence[Cell]) -> Markup:
    """All panels, one under the other, as an SVG that stands alone."""
    panels = [panel(columns, *row, y=number * HEIGHT) for number, row in enumerate(PANELS)]
    words = "Solid: pairs. Dotted: triplets. Dashed: class-wise. Grey without points: in proportion to the images."
    height = HEIGHT * len(PANELS) + 24
    note = tag("text", words, x=48, y=height - 10, class_="note")
    colors = "".join(f"--{name}: {color};" for name, color in COLORS.items())
    style = f"svg {{ {colors} font: 11px sans-serif; }} .title {{ fill: var(--ink); }} .note {{ fill: var(--faint); }}"
    return tag(
        "svg",
        tag("title", "What training costs as images and classes grow"),
        tag("style", Markup(style)),
        tag("rect", width="100%", height="100%", fill="#ffffff"),
        *panels,
        note,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH:g} {height:g}",
        role="img",
    )


def panel(columns: Sequence[Cell], sweep: str, key: str, unit: str, title: str, *, y: float) -> Markup:
    """How one cost grows with what the sweep is called after."""
    own = [column for column in columns if column["sweep"] == sweep]
    lines = []
    for name, method in METHODS.items():
        if pairs := grown(own, sweep, name, key):
            sizes, costs = zip(*pairs, strict=True)
            lines.append(Line(name, sizes, costs, **method.look))
    ticks = sorted({x for line in lines for x in line.x})
    if sweep == "images" and unit == "seconds":
        first, last, low = ticks[0], ticks[-1], min(cost for line in lines for cost in line.y) / 2
        lines.append(Line("in proportion", (first, last), (low, low * last / first), "faint", "dotted"))
    names = {"images": "training images", "classes": "classes"}
    chart = Chart(
        title, names[sweep], unit, tuple(lines), base=10, ticks=tuple(ticks), logarithmic=True,
        width=WIDTH / 72, height=(HEIGHT - 30) / 72,
    )  # fmt: skip
    place = f'y="{y + 30:g}" width="{WIDTH:g}" height="{HEIGHT - 30:g}"'
    placed = Markup(inline(chart).replace('class="chart"', place, 1))
    return tag("g", tag("text", title, x=48, y=y + 22, class_="title"), placed)


def circumstances() -> dict[str, Any]:
    command = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(command, capture_output=True, text=True, cwd=HERE).stdout.strip()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "commit": commit,
        "threads": 1,
    }


if __name__ == "__main__":
    main()
