r"""AnDSH: angular deep supervised hashing. Codes by angles, all on one sphere.

The idea: the codes {-1, +1}^K lie on the sphere of radius sqrt(K), where the angle between two of them tells
their Hamming distance. So logits are taken as directions, and everything is an angle: an image turns towards
the vector of its class (*classification*; ``margins.py``, and ``dynamic.py`` for several labels), class
vectors turn away from each other, and an image turns, if asked, towards its own code (*separation* and
*quantization*; ``separation.py``). This file puts them together.

Grades say who vouches for a part: [P] the paper, [S] a survey by people who read it, [F] a public
re-implementation, [R] our reconstruction. The paper's margin strength, weights and backbone are not known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from anglehash.codes import check_bits, pack
from anglehash.evaluation.code_statistics import ClassCodeDistances, class_code_distances
from anglehash.methods.checks import check_classes, check_positive, check_progress, check_weight, choose
from anglehash.methods.losses import LOSSES
from anglehash.methods.losses.dynamic import MULTILABEL, AngularBatch
from anglehash.methods.losses.labels import multi_hot, precise, refuse_unlabelled
from anglehash.methods.losses.margins import MARGINS, Annealing, choose_strength
from anglehash.methods.losses.separation import DISTANCES, hash_constraint, quantization

EPSILON = 1e-6  # a vector shorter than this is not stretched to a unit: no division by 0

_LINEAR = {"hidden": 0, "batch_norm": False}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # chosen on folds of the training parts of CIFAR-10, COCO and Tiny-ImageNet (docs/likeness.md)
    "default": {
        "loss": {"margin": "asoftmax", "gamma": 3.0, "multilabel": "partial"},
        "batch_norm": False,
        "hidden": 512,
        "dropout": 0.3,
    },
    # as the paper and the survey describe it; m, alpha and beta are not known and are [R]
    "paper": {
        "loss": {
            "margin": "asoftmax",
            "m": 4,
            "scale": "auto",
            "alpha": 1.0,
            "beta": 1.0,
            "gamma": 0.0,
            "distance": "cos",
            "multilabel": "merge",
        },
        **_LINEAR,
    },
    # the paper's ablation: softmax, A-Softmax, and (preset paper) both terms together
    "softmax": {"loss": {"margin": "softmax", "alpha": 0.0, "beta": 0.0, "gamma": 0.0}, **_LINEAR},
    "asoftmax": {"loss": {"margin": "asoftmax", "m": 4, "alpha": 0.0, "beta": 0.0, "gamma": 0.0}, **_LINEAR},
    # the public re-implementation [F]
    "public": {
        "loss": {"margin": "cosface", "scale": 10.0, "distance": "tanh_unit", "multilabel": "append"},
        **_LINEAR,
    },
}
"""Named groups of settings of a run: in ``loss`` the options of :class:`AngularHashLoss`."""


class AngularTerms(NamedTuple):
    """The parts of the loss, scalars: ``classification + separation + gamma * quantization`` is the whole."""

    classification: Tensor
    separation: Tensor
    quantization: Tensor


@LOSSES.register("andsh")
class AngularHashLoss(nn.Module):
    r"""Angular deep supervised hashing (AnDSH): classification on a sphere whose class vectors keep apart.

    .. math:: L = L_{cls} + L_{hash} + \gamma\,q

    **Classification** [P: A-Softmax]. With the cosines :math:`c_j` between an image and the class vectors,
    the target's logit :math:`g(c_y)`, held back by a margin, and the other classes N,

    .. math:: L_{cls} = -\log \frac{e^{g(c_y)}}{e^{g(c_y)} + \sum_{j \in N} e^{s\,c_j}}

    ============  ====================================================  =============
    margin        g(c)                                                  m
    ============  ====================================================  =============
    ``asoftmax``  s (lambda c + psi_m(c)) / (1 + lambda)                4 [R]
    ``arcface``   s cos(theta + m); s (c - m sin m) past pi - m  [R]    0.2
    ``cosface``   s (c - m)  [F]                                        0.2
    ``softmax``   s c  [P: of its ablation]                             none
    ============  ====================================================  =============

    **Separation** [P: "hash constraints on the hypersphere"; its form S, F]. Over all pairs of class vectors,
    :math:`L_{hash} = -\alpha\,\mathrm{mean}\,D + \beta\,\mathrm{var}\,D` with :math:`D = (1 - \cos) / 2`.

    **Quantization** [R], reported always and weighted by gamma, 0 in the faithful setting: the mean of
    :math:`q = 1 - |z|_1 / (\sqrt K |z|_2)`, the angle between an image and its code.

    Args:
        bits: length K of a code, 4..1024.
        classes: number of classes C, at least 2.
        margin: ``asoftmax``, ``arcface``, ``cosface`` or ``softmax``.
        m: strength of the margin; ``None`` is the table's.
        scale: s. ``auto`` is max(sqrt(K), sqrt(2) ln(C - 1)) [R]: the radius of the codes, or more where
            with this many classes the softmax could not become sure. A number; or ``feature``, the
            length of z, as in the original A-Softmax.
        alpha: weight of the mean distance of class vectors.
        beta: weight of its variance.
        gamma: weight of the quantization angle.
        distance: D: ``cos``; ``tanh_unit`` [F]; ``tanh_scaled`` [R]; ``sign_ste`` [R] (``separation.py``).
        multilabel: what an image with several labels is drawn to: ``merge`` [R], ``append`` [F], ``partial``
            [R], ``smooth`` [R] or ``sample`` [R] (``dynamic.py``). With one label all but ``append`` agree;
            where no image has several (:meth:`remember`), ``append`` does too, as [F] has it.
        lambda_min: lambda of ``asoftmax`` at the end; 0 is the bare psi, without annealing.
        lambda_base: lambda at the start.
        lambda_decay: fall of lambda per step, of :meth:`set_iteration` only.
        anneal: part of the run after which lambda is ``lambda_min`` [R]; see :meth:`set_progress`.
        unlabelled: images without a label: ``refuse`` them, or ``skip`` them in every term.
        generator: of the random choice in ``sample``; ``None`` is torch's global one.

    Attributes:
        weight: ``(classes, bits)``, the class vectors, learned; only their directions matter. They start as
            uniformly random directions out of torch's global generator.
        several: whether training images may have several labels; ``True`` until :meth:`remember` says otherwise.
        terms: the :class:`AngularTerms` of the last call, detached, for a log; ``None`` before it.
        presets: :data:`PRESETS`.

    Shape:
        - logits: ``(batch, bits)`` float, any scale: rows are normalised here. No tanh before [S, F].
        - labels: ``(batch,)`` class numbers, or ``(batch, classes)`` multi-hot.
        - output: ``()``, the mean over images, in float32 (float64 for float64) also under autocast.

    Raises:
        ConfigError: a setting is unknown or out of range; one class only.
        DataError: when called: a shape or dtype does not fit; an image has no label and is not skipped.

    Source:
        Zhou et al., "Angular Deep Supervised Hashing for Image Retrieval", IEEE Access 7:127521-127532, 2019,
        doi 10.1109/ACCESS.2019.2939650; survey: Luo et al., ACM TKDD 17(1):15, section 3.3.2. How we differ
        from the paper: in what is marked [R], which it may do otherwise.

    Two classes at a right angle, an image right on the first: s = 2, cosines 1 and 0. As the first, psi = 1:
    log(1 + exp(-2)) = .1269. As the second, psi_4(90 degrees) = -3, lambda = 5, so g = 2 * -3/6 = -1, against
    2: log(1 + exp(3)) = 3.0486. D = 1/2 takes 0.5 off both.

    >>> loss = AngularHashLoss(bits=4, classes=2)
    >>> _ = loss.weight.data.copy_(torch.tensor([[1.0, 1, 1, 1], [1, 1, -1, -1]]))
    >>> image = torch.tensor([[3.0, 3, 3, 3]])
    >>> [round(loss(image, torch.tensor([y])).item(), 4) for y in (0, 1)]
    [-0.3731, 2.5486]
    """

    presets = PRESETS

    def __init__(
        self,
        bits: int,
        classes: int,
        *,
        margin: str = "asoftmax",
        m: float | None = None,
        scale: float | str = "auto",
        alpha: float = 1.0,
        beta: float = 1.0,
        gamma: float = 0.0,
        distance: str = "cos",
        multilabel: str = "merge",
        lambda_min: float = 5.0,
        lambda_base: float = 1000.0,
        lambda_decay: float = 0.12,
        anneal: float = 0.45,
        unlabelled: str = "refuse",
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.bits, self.classes = check_bits(bits), check_classes(classes)
        self.margin, self.m = margin, choose_strength(margin, m)
        self.scale = _resolve_scale(scale, bits, classes)
        self.alpha = check_weight("alpha", alpha)
        self.beta = check_weight("beta", beta)
        self.gamma = check_weight("gamma", gamma)
        self.distance = choose("distance", distance, DISTANCES)
        self.multilabel = choose("multilabel mode", multilabel, MULTILABEL)
        self.unlabelled = choose("setting of unlabelled", unlabelled, ("refuse", "skip"))
        self.several = True
        self.annealing = Annealing(lambda_min, lambda_base, lambda_decay, anneal)
        self.generator = generator
        self.lambda_ = self.annealing.at(1)
        self.terms: AngularTerms | None = None
        self.weight = nn.Parameter(torch.randn(classes, bits) / math.sqrt(bits))

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The whole loss, a scalar."""
        terms = self.components(logits, labels)
        self.terms = AngularTerms(*(term.detach() for term in terms))
        return terms.classification + terms.separation + self.gamma * terms.quantization

    def components(self, logits: Tensor, labels: Tensor) -> AngularTerms:
        """The parts of the loss, each with its gradient; quantization is not yet weighted by gamma."""
        with torch.autocast(logits.device.type, enabled=False):
            z, positive = self._labelled(logits, labels)
            w = self.weight.to(z.dtype)
            image, vector = _unit(z), _unit(w)
            batch = AngularBatch(
                cosine=image @ vector.T,
                merged=(image * _unit(positive.to(z.dtype) @ vector)).sum(dim=1, keepdim=True),
                positive=positive,
                scale=z.norm(dim=1, keepdim=True) if self.scale == "feature" else float(self.scale),
                margin=lambda cosine: MARGINS[self.margin].apply(cosine, self.m, self.lambda_),
                generator=self.generator,
            )
            images = max(len(z), 1)  # a batch may have lost all its images: its terms are then 0
            distances = DISTANCES[self.distance](vector)
            mode = (
                self.multilabel if self.several else "merge"
            )  # with one label all modes are the plain softmax
            return AngularTerms(
                classification=MULTILABEL[mode](batch).sum() / images,
                separation=hash_constraint(distances, alpha=self.alpha, beta=self.beta),
                quantization=quantization(image).sum() / images,
            )

    def remember(self, labels: Tensor) -> None:
        """Look whether any training image has several labels: where none has, the softmax is the plain one.

        Args:
            labels: ``(n, classes)`` bool, of all training images.
        """
        self.several = bool((labels.sum(dim=1) > 1).any())

    def set_progress(self, fraction: float) -> None:
        """Anneal lambda to this part of the run, in [0, 1]; a loss that receives none is annealed.

        The schedule is scaled to the run so that ``lambda_min`` is reached at ``anneal`` of it.

        Raises:
            ConfigError: not in [0, 1].
        """
        self.lambda_ = self.annealing.at(check_progress(fraction))

    def set_iteration(self, iteration: int) -> None:
        """Anneal lambda by the count of steps, as published, whatever the length of the run."""
        self.lambda_ = self.annealing.at_iteration(iteration)

    def class_codes(self) -> NDArray[np.uint8]:
        """The codes of the class vectors, ``(classes, bits)`` of 0 and 1: 1 where a weight is > 0."""
        return (self.weight.detach() > 0).cpu().numpy().astype(np.uint8)

    def hamming_statistics(self) -> ClassCodeDistances:
        """Mean, deviation and least of the true Hamming distances between class codes, in bits."""
        return class_code_distances(pack(self.class_codes()))

    def statistics(self) -> dict[str, float]:
        """What a log should keep: the parts of the last call, lambda, and the distances of class codes."""
        terms = {} if self.terms is None else self.terms._asdict()
        distances = self.hamming_statistics()._asdict()
        return {
            **{name: value.item() for name, value in terms.items()},
            "lambda": self.lambda_,
            **{f"class_distance_{name}": value for name, value in distances.items()},
        }

    def extra_repr(self) -> str:
        """The settings that tell one loss from another, for ``print``."""
        names = (
            "bits",
            "classes",
            "margin",
            "m",
            "scale",
            "alpha",
            "beta",
            "gamma",
            "distance",
            "multilabel",
        )
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _labelled(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits in full precision and labels as multi-hot, of the images that have a label."""
        z = precise(logits, self.bits, self.weight.dtype)
        positive = multi_hot(labels, len(z), self.classes)
        if self.unlabelled == "refuse":
            refuse_unlabelled(positive, "leave them out, or set unlabelled='skip'")
        has_label = positive.any(dim=1)
        if has_label.all():
            return z, positive
        return z[has_label], positive[has_label]


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors, dim=1, eps=EPSILON)


def _resolve_scale(scale: float | str, bits: int, classes: int) -> float | str:
    """``auto`` as its number; a number or ``feature`` as it is."""
    if scale == "auto":
        return max(math.sqrt(bits), math.sqrt(2) * math.log(classes - 1))
    if scale == "feature":
        return scale
    return check_positive("scale", scale, hint="or 'auto' or 'feature'")
