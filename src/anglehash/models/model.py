"""A learned model: what it is made of, and how it is kept.

A model is a folder: weights as safetensors, the pixel hashes of the images it has seen, its training log,
and a checksummed manifest with the settings, the preprocessing, the library versions and the sha256 of each file.
"""

from __future__ import annotations

import json
import platform
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from anglehash.codes import SHORTEST_PREFIX, check_bits, pack
from anglehash.config import TrainConfig
from anglehash.data.dataset import ImageStore, Problem
from anglehash.encode.encoder import MODEL_VERSION, Encoding, refuse_file
from anglehash.encode.unknown_level import KEY, Level
from anglehash.errors import ConfigError, ModelError
from anglehash.files import new_folder, sha256_json, write_json
from anglehash.manifest import is_a, read_manifest, write_manifest
from anglehash.models.backbones import Backbone, restore_backbone
from anglehash.models.device import encoding_device, own_generators, torch_threads
from anglehash.models.features import extract
from anglehash.models.heads.classical import restore_head
from anglehash.models.heads.ensemble import EnsembleHead
from anglehash.models.heads.hash_head import HashHead, logits_of
from anglehash.models.heads.likeness import LikenessHead
from anglehash.models.heads.posterior import PosteriorHead
from anglehash.progress import Progress, silent

SPLIT = "split.json"
HEAD = "head.safetensors"
HASH = "hash"  # the kind of a deep method's head
LIBRARIES = ("anglehash", "numpy", "pillow", "torch", "onnxruntime")


@dataclass(eq=False)
class Model:
    """Backbone and hash head.

    Attributes:
        config: the settings it was trained with, its preset applied.
        class_names: classes it has learned, in the order of the class vectors.
        multi_label: whether its training images had several labels.
        backbone: images to features.
        head: features to logits.
        class_vectors: ``(classes, bits)`` float32 that the loss learned; their signs are the class codes.
            Empty where a loss has none.
        seen: ``(n, 32)`` sha256 of the pixels of every image of training and validation.
        split: protocol, seed and hash of the split, as JSON values.
        split_manifest: the split itself (:meth:`RetrievalSplit.manifest`), if a protocol made one; ``split.json``
            in the folder, from which ``--protocol MODEL/split.json`` makes it again.
        log: one record an epoch.
        problems: images that were skipped when it was trained; only their number is kept.
        backbone_trained: whether its backbone learned too, so that no other model has these features.
        level: how far away the nearest item of a known picture is; ``None`` where that was not measured.
        params: arguments of the :class:`~anglehash.training.hasher.Hasher` that learned it, as JSON values, if one did.
    """

    config: TrainConfig
    class_names: tuple[str, ...]
    multi_label: bool
    backbone: Backbone
    head: nn.Module
    class_vectors: NDArray[np.float32]
    seen: NDArray[np.uint8]
    split: dict[str, Any] = field(default_factory=dict)
    split_manifest: dict[str, Any] | None = None
    log: list[dict[str, Any]] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()
    backbone_trained: bool = False
    level: Level | None = None
    params: dict[str, Any] | None = None

    @property
    def id(self) -> str:
        """What a code depends on, as a hash: equal ids, equal codes."""
        head = {k: v.numpy().tobytes().hex() for k, v in self.head.state_dict().items()}
        return sha256_json({"backbone": self.backbone.identity, "bits": self.config.bits, "head": head})[:32]

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.config.bits

    def encode(
        self,
        images: ImageStore,
        *,
        rows: NDArray[np.int64] | None = None,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> Encoding:
        """Features, logits and codes of images, all in memory: about 5 kB an image.

        Args:
            images: where they are.
            rows: which of them; all by default.
            cache: folder of cached features, or ``None`` to compute them.
            progress: callback.

        Raises:
            ModelError: the logits of an image are not finite.
        """
        if self.backbone_trained:
            cache = None  # these features are of no other model
        with torch_threads(self.config.threads):
            found = extract(images, self.backbone, rows=rows, cache=cache, progress=progress)
            logits = logits_of(self.head, found.values)
        if not np.isfinite(logits).all():
            raise ModelError(
                "the model gives NaN or infinite logits: its weights are unusable, train it again"
            )
        return Encoding(
            rows=found.rows,
            codes=pack(logits),
            logits=logits,
            features=found.values,
            problems=found.problems,
            notes=found.notes,
        )

    def shortened(self, bits: int) -> Model:
        """A model of the first bits of nested codes; nothing is trained again.

        Args:
            bits: length of its codes: 8, 16, 32, ... are those that were learned as codes of their own.

        Raises:
            ConfigError: the codes are not nested, have no more bits than that, or the first of them that were
                learned are longer.
        """
        if not self.config.loss.get("nested") or not isinstance(self.head, PosteriorHead):
            raise ConfigError(
                "only nested codes can be shortened, and this model's are not: train one with --method posterior, "
                "--likeness 0 and nested = 128, say, under [loss] of --config"
            )
        if not SHORTEST_PREFIX <= check_bits(bits) < self.bits:
            raise ConfigError(
                f"the model has {self.bits} bits: bits must be in {SHORTEST_PREFIX}..{self.bits - 1}, got {bits}"
            )
        log = [{k: v for k, v in record.items() if k != "validation_map"} for record in self.log]
        config = replace(self.config, bits=bits)
        vectors = self.class_vectors[:, :bits]
        return replace(
            self,
            config=config,
            head=self.head.shortened(bits),
            class_vectors=vectors,
            log=log,
            level=None,
            params=None,
        )

    def save(self, path: str | PathLike[str], *, force: bool = False) -> None:
        """Write the model's folder, whole or not at all.

        Raises:
            OutputExistsError: ``path`` exists and ``force`` is not set.
        """
        with new_folder(Path(path), force=force, ours=is_a("model")) as folder:
            self.backbone.save(folder)
            _save(self.head, folder / HEAD)
            rest = {
                "seen": torch.from_numpy(self.seen),
                "class_vectors": torch.from_numpy(self.class_vectors),
            }
            save_file({k: v.contiguous() for k, v in rest.items()}, folder / "data.safetensors")
            if self.split_manifest:
                write_json(folder / SPLIT, self.split_manifest)
            lines = "".join(json.dumps(record) + "\n" for record in self.log)
            (folder / "log.jsonl").write_text(lines, encoding="utf-8")
            write_manifest(folder, "model", MODEL_VERSION, self.facts())

    def facts(self) -> dict[str, Any]:
        """What the manifest says of the model, as JSON values."""
        return {
            "id": self.id,
            "bits": self.config.bits,
            "method": self.config.method,
            "likeness": self.config.likeness,
            "head": kind_of_head(self.head),
            "config": self.config.to_dict(),
            "classes": list(self.class_names),
            "multi_label": self.multi_label,
            "backbone": {
                "name": self.backbone.name,
                "size": self.backbone.size,
                "width": self.backbone.width,
                "identity": self.backbone.identity,
                "engine": self.backbone.engine,
                "trained": self.backbone_trained,
            },
            "preprocessing": self.backbone.preprocessing.to_dict(),
            "split": self.split,
            "params": self.params,
            "seen": len(self.seen),
            "skipped": len(self.problems),
            KEY: self.level and self.level.facts(),
            "versions": {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES},
        }

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Model:
        """Read a model's folder, after checking every file's sha256; torch's global generators are left as they were.

        It encodes on the device that it learned on, or on the CPU where there is none such.

        Raises:
            ModelError: damaged, foreign, of a newer format, or its files do not fit together.
        """
        path = Path(path)
        refuse_file(path)
        facts = read_manifest(path, "model", MODEL_VERSION, oldest=MODEL_VERSION)
        with own_generators(torch.device("cpu")):  # weights are drawn before they are read
            return cls._read(path, facts)

    @classmethod
    def _read(cls, path: Path, facts: dict[str, Any]) -> Model:
        config = TrainConfig.from_dict(facts["config"])
        names = tuple(facts["classes"])
        try:
            device = encoding_device(config.device)
            backbone = restore_backbone(
                path, facts["backbone"], facts["preprocessing"], threads=config.threads, device=device
            )
            head = _restore_head(facts.get("head", HASH), config, backbone.width, load_file(path / HEAD))
            rest = load_file(path / "data.safetensors")
        except (SafetensorError, RuntimeError, KeyError, OSError) as error:
            raise ModelError(
                f"{path}: its files do not fit together: {str(error).splitlines()[0]}"
            ) from error
        head.eval()
        manifest = json.loads((path / SPLIT).read_bytes()) if SPLIT in facts["files"] else None
        log = [json.loads(line) for line in (path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        return cls(
            config=config,
            class_names=names,
            multi_label=facts["multi_label"],
            backbone=backbone,
            head=head,
            class_vectors=rest["class_vectors"].numpy(),
            seen=rest["seen"].numpy(),
            split=facts["split"],
            split_manifest=manifest,
            log=log,
            backbone_trained=facts["backbone"]["trained"],
            level=Level.of(facts),
            params=facts.get("params"),
        )


def kind_of_head(head: nn.Module) -> str:
    """The name that :func:`_restore_head` takes: ``hash`` for a deep method, ``likeness+hash``, ``linear``, ..."""
    if isinstance(head, LikenessHead):
        return f"{head.kind}+{kind_of_head(head.base)}"
    if isinstance(head, EnsembleHead):
        return f"{head.kind}+{kind_of_head(head.heads[0])}"
    return getattr(head, "kind", HASH)


def _restore_head(kind: str, config: TrainConfig, width: int, state: dict[str, Tensor]) -> nn.Module:
    outer, _, inner = kind.partition("+")
    if outer == LikenessHead.kind:
        own = {name: tensor for name, tensor in state.items() if not name.startswith("base.")}
        return LikenessHead(_restore_head(inner, config, width, _below("base.", state)), **own)
    if outer == EnsembleHead.kind:
        parts = [_below(f"heads.{number}.", state) for number in range(len(state["rotations"]))]
        heads = [_restore_head(inner, config, width, part) for part in parts]
        return EnsembleHead(heads, rotations=state["rotations"])
    if kind != HASH:
        return restore_head(kind, state)
    head = HashHead(width, config.bits, hidden=config.hidden or 0, batch_norm=bool(config.batch_norm))
    head.load_state_dict(state)
    return head


def _below(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without that."""
    return {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}


def _save(module: nn.Module, path: Path) -> None:
    save_file({key: value.contiguous() for key, value in module.state_dict().items()}, path)
