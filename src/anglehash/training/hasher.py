"""The hasher: images to binary codes, in the shape of a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import NotFittedError as SklearnNotFittedError
from sklearn.utils import Tags

from anglehash.codes import Codes, unpack
from anglehash.config import TrainConfig
from anglehash.data.dataset import Dataset, ImageStore, Problem, refuse_problems
from anglehash.data.sources.in_memory import as_images, with_labels
from anglehash.data.sources.open import list_images, open_dataset
from anglehash.data.split import RetrievalSplit
from anglehash.encode.encoder import Encoding, named_problems
from anglehash.errors import ConfigError, DataError, NotFittedError
from anglehash.files import cache_dir
from anglehash.models.model import Model
from anglehash.progress import Progress, usual
from anglehash.training.fit import fit

Picture = str | PathLike[str] | Image.Image | NDArray[np.uint8] | bytes
Images = str | PathLike[str] | Dataset | Sequence[Picture] | NDArray[np.uint8]


class UnfittedHasherError(NotFittedError, SklearnNotFittedError):  # type: ignore[misc]
    """A hasher was asked for what it has not learned; scikit-learn's own ``NotFittedError`` as well as ours."""


class Hasher(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Learns binary codes from labelled images, and gives them to any image.

    The constructor only stores; :class:`~anglehash.config.TrainConfig` explains and checks the settings when
    ``fit`` is called. ``fit`` leaves the global generators of torch and numpy as they were. No image is left out in
    silence: ``fit`` and ``encode`` refuse what cannot be read; the command line skips and lists it.

    It keeps scikit-learn's conventions (``clone``, ``set_output``, ``get_feature_names_out``, pipelines), without
    ``n_features_in_``: images are no columns.

    Args:
        bits: length of a code, 4..1024.
        method: its name (docs/methods.md).
        preset: named settings of the method; ``paper`` is the faithful one.
        loss: options of the loss, over those of the preset.
        likeness: how much a code keeps of what a picture looks like; 0 is the method's own code (docs/likeness.md).
        backbone: network that gives features.
        image_size: side of its input, in pixels.
        fine_tune: train the backbone too.
        settings: any further setting of ``TrainConfig`` (``epochs``, ``hidden``, ``learning_rate``, ...).
        seed: seed of weights, order and augmentation.

    Attributes:
        model_: the learned :class:`~anglehash.models.model.Model`.
        classes_: names of its classes.

    >>> from anglehash import Hasher, hamming
    >>> hasher = Hasher(bits=16, backbone="tiny", image_size=16, settings={"epochs": 1})
    >>> rng = np.random.default_rng(0)
    >>> images = [rng.integers(0, 256, (16, 16, 3), dtype=np.uint8) for _ in range(20)]
    >>> codes = hasher.fit(images, ["dog", "cat"] * 10).encode(images)
    >>> codes.shape, codes.dtype, hasher.classes_
    ((20, 2), dtype('uint8'), ('cat', 'dog'))
    """

    def __init__(
        self,
        bits: int = 64,
        method: str = "andsh",
        *,
        preset: str = "default",
        loss: Mapping[str, Any] | None = None,
        likeness: float = 1.0,
        backbone: str = "efficientnet_lite0",
        image_size: int = 128,
        fine_tune: bool = False,
        settings: Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> None:
        self.bits = bits
        self.method = method
        self.preset = preset
        self.loss = loss
        self.likeness = likeness
        self.backbone = backbone
        self.image_size = image_size
        self.fine_tune = fine_tune
        self.settings = settings
        self.seed = seed

    @property
    def config(self) -> TrainConfig:
        """The settings, checked.

        Raises:
            ConfigError: one is unknown or out of range, or ``settings`` holds an argument of the constructor.
        """
        named = {name: value for name, value in self.get_params(deep=False).items() if name != "settings"}
        for name in named.keys() & (self.settings or {}):
            raise ConfigError(f"Hasher takes {name} as an argument: give it there, not in settings")
        named["loss"] = named["loss"] or {}
        return TrainConfig.from_dict({**(self.settings or {}), **named})

    def fit(
        self,
        X: Images | RetrievalSplit,
        y: Any = None,
        *,
        work: Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from labelled images.

        Args:
            X: a folder with one folder a class, a manifest, the name of a known set, a
                :class:`~anglehash.data.dataset.Dataset`, a :class:`~anglehash.data.split.RetrievalSplit`
                (its training part is used), or images: paths, PIL images, encoded bytes or ``(h, w, 3)``
                ``uint8`` arrays.
            y: labels of images: a name or number each, a list of them each, or a ``(n, classes)``
                multi-hot array. Not given where ``X`` has labels.
            work: folder for checkpoints; a run that was begun there is taken up.
            progress: callback of the progress; by default a bar shows it in a notebook.

        Raises:
            DataError: no usable labels, fewer than 2 classes, or an image cannot be read; the message names it.
            ConfigError: a setting is out of range.
        """
        data: Dataset | RetrievalSplit
        if isinstance(X, RetrievalSplit | Dataset):
            data = X
        elif isinstance(X, str | PathLike):
            data = open_dataset(X)
            refuse_problems(data.problems, len(data) + len(data.problems))
        else:
            data = with_labels(as_images(X), y)
        if y is not None and isinstance(X, str | PathLike | RetrievalSplit | Dataset):
            raise DataError(
                "labels come with the folder, manifest or split: give y with a list of images only"
            )
        self.model_ = fit(
            data,
            self.config,
            work=work,
            cache=cache_dir(),
            skip_unreadable=False,
            progress=progress or usual(),
        )
        return self

    @property
    def classes_(self) -> tuple[str, ...]:
        """Names of the learned classes."""
        return self._fitted().class_names

    def encode(self, X: Images) -> Codes:
        """Packed codes of images, one row each, in their order.

        Args:
            X: a folder or manifest (its images, sorted by id), a dataset, or images as in :meth:`fit`.

        Returns:
            ``(n, ceil(bits / 8))`` ``uint8``.

        Raises:
            NotFittedError: neither ``fit`` nor ``load`` came before.
            DataError: an image cannot be read; the message names it.
        """
        return self._encode(X).codes

    def transform(self, X: Images) -> NDArray[np.uint8]:
        """The codes as 0 and 1, ``(n, bits)`` ``uint8``, for pipelines; otherwise as :meth:`encode`."""
        return unpack(self.encode(X), self._fitted().config.bits)

    def logits(self, X: Images) -> NDArray[np.float32]:
        """The real-valued codes before binarising, ``(n, bits)``; otherwise as :meth:`encode`."""
        return self._encode(X).logits

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write the model's folder; :meth:`load` reads it.

        Raises:
            NotFittedError: there is nothing to save.
            OutputExistsError: ``path`` exists and ``force`` is not set.
        """
        params = {
            name: dict(value) if isinstance(value, Mapping) else value
            for name, value in self.get_params(deep=False).items()
        }
        replace(self._fitted(), params=params).save(Path(path), force=force)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Self:
        """The hasher of a model's folder, every file of which is checked first.

        Raises:
            ModelError: damaged, foreign, or of a newer format.
        """
        model = Model.load(Path(path))
        hasher = cls(**(model.params or _params_of(model.config)))
        hasher.model_ = model
        return hasher

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """The names of the columns of :meth:`transform`: ``hasher0``, ``hasher1``, ...; images have no names."""
        return np.array([f"hasher{bit}" for bit in range(self._fitted().config.bits)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False  # images, not columns of numbers
        tags.input_tags.string = True
        tags.target_tags.required = True
        tags.target_tags.one_d_labels = True
        tags.target_tags.two_d_labels = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    def _encode(self, X: Images) -> Encoding:
        model = self._fitted()
        store: ImageStore
        missing: tuple[Problem, ...] = ()
        if isinstance(X, str | PathLike):
            listed = list_images(X)
            store, names, missing = listed.images, listed.ids, listed.problems
        elif isinstance(X, Dataset):
            store, names = X.images, X.ids
        else:
            given = as_images(X)
            store, names = given, given.names
        found = model.encode(store)
        problems = [*missing, *named_problems(names, found.problems)]
        refuse_problems(problems, len(names) + len(missing))
        return found

    def _fitted(self) -> Model:
        if not hasattr(self, "model_"):
            raise UnfittedHasherError(
                "this Hasher has learned nothing yet: call fit(...), or use Hasher.load(...)"
            )
        return self.model_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")


def _params_of(config: TrainConfig) -> dict[str, Any]:
    """Arguments of a hasher with the settings of a model that the command line trained."""
    settings, usual = config.to_dict(), TrainConfig().to_dict()
    named = {name: settings.pop(name) for name in Hasher().get_params(deep=False) if name != "settings"}
    return named | {"settings": {k: v for k, v in settings.items() if v != usual[k]} or None}
