"""Opening what encodes images: a model, which needs torch, or a bundle, which does not."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from anglehash.encode.bundle import KIND, Bundle
from anglehash.encode.encoder import MODEL_VERSION, Encoder, refuse_file
from anglehash.errors import MissingExtraError, ModelError
from anglehash.manifest import kind_of, read_manifest


class Holder(Protocol):
    """A gallery, or who writes to it: it names the model of its codes, and holds a copy of it."""

    @property
    def model_id(self) -> str: ...  # noqa: D102
    @property
    def model_folder(self) -> Path: ...  # noqa: D102


class Using(NamedTuple):
    """Who encodes for a gallery.

    Attributes:
        model: folder of a model or bundle in place of the gallery's own copy.
        strict: refuse a bundle whose golden probes have other codes here.
    """

    model: Path | None = None
    strict: bool = False

    def open(self, gallery: Holder) -> Encoder:
        """The encoder of a gallery.

        Raises:
            ModelError: it is of another id, damaged, or not there.
            MissingExtraError: it is a model, and torch is not installed.
        """
        path, wanted = self.model or gallery.model_folder, gallery.model_id
        encoder = open_encoder(path, strict=self.strict)
        if encoder.id == wanted:
            return encoder
        if self.model:
            raise ModelError(
                f"the gallery holds codes of the model {wanted}, but {path} is {encoder.id}: "
                "leave out --model, or encode it again: anglehash reindex --model"
            )
        raise ModelError(
            f"{path.parent.parent} holds codes of the model {wanted}, but its copy is {encoder.id}: "
            "restore a backup, or encode it again: anglehash reindex --model"
        )


OWN = Using()
"""The gallery's own copy."""


def open_encoder(path: Path, *, strict: bool = False) -> Encoder:
    """The model or bundle of a folder.

    Args:
        path: the folder.
        strict: refuse a bundle whose golden probes have other codes here, of which there is a warning else.

    Raises:
        ModelError: damaged, foreign or of a newer format; or refused by ``strict``.
        MissingExtraError: it is a model, and torch is not installed.
    """
    refuse_file(path)
    kind = kind_of(path)
    if kind == KIND:
        return Bundle.open(path, strict=strict)
    if kind != "model":
        read_manifest(
            path, "model", MODEL_VERSION, oldest=MODEL_VERSION
        )  # says what is wrong, and needs no torch to do so
    try:
        model: Encoder = import_module("anglehash.models.model").Model.load(path)  # the one that needs torch
    except ModuleNotFoundError as error:
        instead = f"  or make a bundle where it is:  anglehash export {path} -o BUNDLE"
        raise MissingExtraError(str(error.name), extra="train", instead=instead) from error
    return model
