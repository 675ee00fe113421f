"""A bundle: a model as it is used, on any machine, without torch.

It is a folder: the network from pixels to logits as ONNX (``network.onnx``), the golden probes as pictures
(``probe-*``), and a checksummed manifest with the preprocessing, the probes' codes, what was measured when it was
exported, and the sha256 of each file. What the folder holds is taken as hostile: nothing reaches ONNX Runtime
before it was looked at, and nothing runs in this process before it ran in another, within limits.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy as safetensors
from numpy.typing import NDArray
from safetensors import SafetensorError

from anglehash.codes import Codes, check_bits, width
from anglehash.config import TrainConfig
from anglehash.data.dataset import ImageStore
from anglehash.data.images.decoding import Preprocessing
from anglehash.data.sources.in_memory import as_images
from anglehash.encode.encoder import Encoding, refuse_file
from anglehash.encode.network import Network
from anglehash.encode.onnx_check import check_plain
from anglehash.encode.self_test import Probe, ProbeResult, compare, pictures, prepared, record
from anglehash.encode.trial import believe, try_out
from anglehash.encode.unknown_level import Level
from anglehash.errors import DataError, ModelError
from anglehash.files import new_folder, sha256_json
from anglehash.manifest import is_a, read_manifest, write_manifest
from anglehash.progress import Progress, silent

KIND, VERSION = "bundle", 2
NETWORK, LEARNED, SPLIT = "network.onnx", "data.safetensors", "split.json"

MAX_NETWORK = 1 << 30
"""Bytes of a network, at most."""

MAX_OTHER, MAX_PROBE = 64 << 20, 1 << 20
"""Bytes of any other file and of a probe, at most."""

MAX_PROBES = 64

_log = logging.getLogger(__name__)


class Origin(NamedTuple):
    """What a bundle was made of.

    Attributes:
        model: id of the model.
        same: whether the bundle gave the model's codes on every image that both were given.
        precision: ``fp32`` or ``int8``.
    """

    model: str
    same: bool
    precision: str

    def id_of(self, network: bytes) -> str:
        """The id of the bundle: the model's own, where it gives the same codes; else one of its own."""
        if self.same:
            return self.model
        return sha256_json({"model": self.model, "network": hashlib.sha256(network).hexdigest()})[:32]


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle, opened.

    Attributes:
        network: images to codes.
        facts: what the manifest says.
        learned: what ``evaluate`` asks for: ``seen`` and ``class_vectors``.
        probes: what became of the golden probes here; ``None`` where they were not run.

    >>> Bundle.open("nowhere")
    Traceback (most recent call last):
    ...
    anglehash.errors.ModelError: no folder nowhere: name an anglehash bundle
    """

    network: Network
    facts: dict[str, Any] = field(repr=False)
    learned: dict[str, NDArray[Any]] = field(repr=False)
    probes: ProbeResult | None = None

    @property
    def id(self) -> str:
        """What a code depends on: the id of the model, where the codes are the same; else another one."""
        return str(self.facts["id"])

    @property
    def bits(self) -> int:
        """Length of a code."""
        return self.network.bits

    @property
    def config(self) -> TrainConfig:
        """The settings that the model was trained with."""
        return TrainConfig.from_dict(self.facts["config"])

    @property
    def class_names(self) -> tuple[str, ...]:
        """Classes that the model has learned."""
        return tuple(self.facts["classes"])

    @property
    def split(self) -> dict[str, Any]:
        """Protocol, seed and hash of the split that the model was trained on."""
        return dict(self.facts["split"])

    @property
    def level(self) -> Level | None:
        """How far away the nearest item of a known picture is; ``None`` where that was not measured."""
        return Level.of(self.facts)

    @property
    def class_vectors(self) -> NDArray[np.float32]:
        """``(classes, bits)`` that the loss learned; empty where it has none."""
        return np.asarray(self.learned["class_vectors"], dtype=np.float32)

    @property
    def seen(self) -> NDArray[np.uint8]:
        """``(n, 32)`` sha256 of the pixels of every image that the model was trained or validated with."""
        return np.asarray(self.learned["seen"], dtype=np.uint8)

    @classmethod
    def open(
        cls, path: str | PathLike[str], *, strict: bool = False, probe: bool = True, threads: int = 1
    ) -> Bundle:
        """Open a bundle: check every file, refuse what is not plain or takes too much, and run the golden probes.

        Args:
            path: its folder.
            strict: refuse where a probe has another code here; else that is a warning.
            probe: run the probes, which takes a fraction of a second.
            threads: CPU threads of the network.

        Raises:
            ModelError: damaged, foreign, of a newer format, too large, not plain ONNX; or, if ``strict``,
                a code of a probe differs.
        """
        path = Path(path)
        facts, files = _read(path)
        try:
            preprocessing = Preprocessing.from_dict(facts["preprocessing"])
            bits = check_bits(facts["bits"])
            probes = [Probe(**probe) for probe in facts["probes"]]
            wrong = [p for p in probes if p.file not in files or len(bytes.fromhex(p.code)) != width(bits)]
        except (KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{path} is not a bundle that anglehash wrote: {error!r}") from error
        if wrong:
            raise ModelError(
                f"{path} is not a bundle that anglehash wrote: its probes are not what they should be"
            )
        name = str(path / NETWORK)
        check_plain(files[NETWORK], name)
        try_out(files[NETWORK], prepared(preprocessing, probes, files), preprocessing, bits=bits, name=name)
        network = Network(files[NETWORK], preprocessing, bits=bits, name=name, threads=threads)
        found = compare(network, probes, files) if probe else None
        if found and found.bits_differ:
            _object(path, facts, found, strict=strict)
        return cls(network, facts, _learned(path, files[LEARNED]), found)

    def encode(
        self,
        images: ImageStore,
        *,
        rows: NDArray[np.int64] | None = None,
        cache: Path | None = None,
        progress: Progress = silent,
    ) -> Encoding:
        """Codes of images; see :class:`~anglehash.encode.encoder.Encoder`. No features are kept or looked up."""
        return self.network.encode(images, rows=rows, progress=progress)

    def codes(self, images: Any) -> Codes:
        """Packed codes of a list of paths, PIL images, encoded bytes or ``uint8`` arrays, one row each.

        Raises:
            DataError: an image cannot be read; the message says which.
        """
        found = self.encode(as_images(images))
        if found.problems:
            row, reason, detail = found.problems[0]
            raise DataError(
                f"{len(found.problems)} of {len(images)} images cannot be encoded (first: image {row}: "
                f"{reason}, {detail}): leave them out"
            )
        return found.codes


def packed_learned(seen: NDArray[np.uint8], class_vectors: NDArray[np.float32]) -> bytes:
    """The file ``data.safetensors`` of a bundle."""
    return bytes(safetensors.save({"seen": seen, "class_vectors": np.ascontiguousarray(class_vectors)}))


def write_bundle(
    path: Path,
    network: bytes,
    preprocessing: Preprocessing,
    origin: Origin,
    facts: dict[str, Any],
    extra: dict[str, bytes],
    *,
    force: bool = False,
) -> None:
    """Write a bundle's folder, whole or not at all, with probes recorded here.

    Args:
        path: the folder.
        network: the content of the ONNX file.
        preprocessing: how its images are prepared.
        origin: what it was made of.
        facts: further JSON values for the manifest; ``bits`` among them.
        extra: content of further files by name; ``data.safetensors`` (:func:`packed_learned`) among them.
        force: replace a bundle that is there.

    Raises:
        OutputExistsError: ``path`` exists and ``force`` is not set, or it is not a bundle.
        ModelError: the network is not plain, too large, or gives NaN.
    """
    if len(network) > MAX_NETWORK:
        raise ModelError(
            f"the network has {len(network) >> 20} MiB: a bundle takes {MAX_NETWORK >> 20} at most"
        )
    check_plain(network, "the network")
    drawn = pictures()
    running = Network(network, preprocessing, bits=facts["bits"], name="the network")
    probes = [probe._asdict() for probe in record(running, drawn)]
    believe(network)
    content = {
        "id": origin.id_of(network),
        "model": origin.model,
        "precision": origin.precision,
        **facts,
        "preprocessing": preprocessing.to_dict(),
        "probes": probes,
    }
    with new_folder(path, force=force, ours=is_a(KIND)) as folder:
        (folder / NETWORK).write_bytes(network)
        for name, data in (drawn | extra).items():
            (folder / name).write_bytes(data)
        write_manifest(folder, KIND, VERSION, content)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The manifest, and the content of network and probes; every byte of every file is checked."""
    refuse_file(path)
    for file in path.iterdir() if path.is_dir() else ():
        most = {NETWORK: MAX_NETWORK}.get(
            file.name, MAX_PROBE if file.name.startswith("probe-") else MAX_OTHER
        )
        if file.is_file() and file.stat().st_size > most:
            raise ModelError(f"{file} has more than {most >> 20} MiB, the most that is read")
    facts = read_manifest(path, KIND, VERSION, oldest=VERSION)
    wanted = [name for name in facts["files"] if name in (NETWORK, LEARNED) or name.startswith("probe-")]
    if not {NETWORK, LEARNED} <= set(wanted) or len(wanted) > MAX_PROBES + 2:
        raise ModelError(f"{path} is not a bundle that anglehash wrote: its manifest names other files")
    files = {name: (path / name).read_bytes() for name in wanted}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != facts["files"][name]:  # it changed since the manifest was read
            raise ModelError(f"{path / name} is damaged: its sha256 is not the manifest's")
    return facts, files


def _learned(path: Path, data: bytes) -> dict[str, NDArray[Any]]:
    try:
        found = safetensors.load(data)
        if found["seen"].shape[1:] != (32,) or found["class_vectors"].ndim != 2:
            raise ValueError("its shapes are not what they should be")
    except (SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{path / LEARNED} is not what anglehash wrote: {error}") from error
    return found


def _object(path: Path, facts: dict[str, Any], found: ProbeResult, *, strict: bool) -> None:
    """Say that codes differ here."""
    made = ", ".join(f"{name} {number}" for name, number in facts.get("versions", {}).items())
    text = f"{path}: {found.line}: codes made here may not match those made elsewhere. It was exported with {made}"
    if strict:
        raise ModelError(f"{text}. Install those versions, export it here, or leave out --strict")
    _log.warning("%s", text)
