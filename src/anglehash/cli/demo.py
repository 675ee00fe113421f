"""The demo: the whole of anglehash once, on scans of digits or on a user's own images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from anglehash.cli.results import picture_rows
from anglehash.config import TrainConfig
from anglehash.data.protocols import make_split
from anglehash.data.sources.open import open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.evaluation.evaluate_model import Measured, evaluate_model
from anglehash.files import cache_dir, write_json
from anglehash.gallery.build import Images, build
from anglehash.gallery.gallery import Gallery
from anglehash.gallery.query import Hit
from anglehash.progress import Console
from anglehash.report.answer_grid import answers_png
from anglehash.report.evaluation import write_report
from anglehash.training.fit import fit

DIGITS = TrainConfig(
    likeness=3.0,  # features that are learned here know the classes, and little of what makes two digits alike
    backbone="tiny",
    image_size=16,
    epochs=12,
    learning_rate=3e-3,
    dropout=0.2,
    flip=False,
)
PHOTOS = TrainConfig()


class Demo(NamedTuple):
    """What the demo found.

    Attributes:
        measured: the evaluation.
        split: its images.
        hits: the gallery's answers to the first query, without that image itself.
    """

    measured: Measured
    split: RetrievalSplit
    hits: list[Hit]

    def search_line(self) -> str:
        """The first query and its answers, in one line."""
        names = self.split.dataset.label_names[int(self.split.query[0])]
        answers = ", ".join(
            f"{'|'.join(hit.labels)} at {hit.distance} bit{'s' * (hit.distance != 1)}" for hit in self.hits
        )
        return f"search for a {'|'.join(names)}: {answers}"


def run_demo(data: str | None, folder: Path) -> Demo:
    """Train, index, search and evaluate into ``folder``.

    Args:
        data: a user's images, or ``None`` for scikit-learn's scanned digits.
        folder: an empty folder; it is given model/, gallery/ (all of the images), result.json, report.html
            and answers.png.
    """
    progress = Console()
    dataset = open_dataset(data or "digits")
    split = make_split(dataset, "given" if dataset.brings_queries else "holdout", progress=progress)
    model = fit(split, PHOTOS if data else DIGITS, cache=cache_dir(), progress=progress)
    model.save(folder / "model")
    measured = evaluate_model(model, split, cache=cache_dir(), progress=progress)
    build(folder / "model", Images(data=data or "digits"), folder / "gallery", progress=progress)
    with Gallery.open(folder / "gallery") as gallery:
        own = split.dataset.ids[int(split.query[0])]
        hits = [hit for hit in gallery.search(measured.query[:1], k=6)[0] if hit.id != own][:5]
    rows = picture_rows(measured, split)
    answers_png(folder / "answers.png", rows)
    write_json(folder / "result.json", measured.result)
    write_report(folder / "report.html", measured.result, rows)
    return Demo(measured, split, hits)
