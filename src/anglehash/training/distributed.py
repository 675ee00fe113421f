r"""The processes of one training: ``torchrun -m anglehash train ...`` starts several, and each gets a share of a batch.

All of them hold the labels and the same weights. A step of a batch with images 1..n over P processes:

1. every process takes its share of the batch through the network;
2. the logits of all shares are gathered on each, with gradient, so that a loss over pairs or triplets sees
   the whole batch, and its own vectors get the same gradient everywhere;
3. what flows back into a process is the gradient of its own logits; the network's gradients are then summed.

So a step is that of one process with the same batch, up to the order in which floats are added. Batch norm
is not an exception: its input is gathered as well (:meth:`Ranks.joined_batch_norms`). Dropout and augmentation
are drawn for each process by itself.

What is not learned in batches is not shared: the conventional methods, ``posterior``, and the calibrated classifier
with its cross-validation. Process 0 computes it and the others get the result (:meth:`Ranks.once`). The features that
it needs are shared.

Source:
    PyTorch's distributed package (Li et al., "PyTorch Distributed", VLDB 2020, arXiv:2006.15704) gives the
    collectives. Differs from its ``DistributedDataParallel``, which averages the gradients of losses of
    shares: the mean over a share's pairs is not the mean over the batch's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn

from anglehash.errors import ConfigError, TrainingError, first_line
from anglehash.models.device import training_device

T = TypeVar("T")

_PATIENCE = timedelta(hours=6)  # the others wait while process 0 validates, and learns what is not shared


class Ranks:
    """The processes that train together, seen from one of them; by default no other exists.

    Args:
        rank: number of this process, from 0; process 0 alone writes.
        size: number of processes.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank = rank
        self.size = size
        self._lengths = [0] * size

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def share(self, rows: Tensor) -> Tensor:
        """This process's part of a batch; the parts are as equal as can be, and in order.

        Raises:
            ConfigError: a process would have no image.

        >>> Ranks(1, 2).share(torch.tensor([4, 7, 1]))
        tensor([1])
        """
        if len(rows) < self.size:
            raise ConfigError(
                f"a batch of {len(rows)} images cannot be shared by {self.size} processes: start fewer, or set a "
                "larger batch_size"
            )
        parts = rows.tensor_split(self.size)
        self._lengths = [len(part) for part in parts]
        return parts[self.rank]

    def gather(self, part: Tensor) -> Tensor:
        """The rows of all processes, where every process continues with all of them in the same way.

        The gradient of this process's rows flows back, and no other.
        """
        if self.size == 1:
            return part
        whole: Tensor = _Gather.apply(part, self, False)  # type: ignore[no-untyped-call]
        return whole

    @contextmanager
    def joined_batch_norms(self, network: nn.Module) -> Iterator[None]:
        """Let each batch norm of a network, while it trains, see the rows of all processes.

        A process continues with its own rows; the gradients of all are summed on their way back, for through
        the batch's mean each row moves every other.
        """
        norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        with ExitStack() as hooks:
            for norm in norms if self.size > 1 else []:
                hooks.enter_context(norm.register_forward_pre_hook(self._before_batch_norm))
                hooks.enter_context(norm.register_forward_hook(self._after_batch_norm))
            yield

    def _before_batch_norm(self, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        if not module.training:
            return None
        return (_Gather.apply(inputs[0], self, True),)  # type: ignore[no-untyped-call]

    def _after_batch_norm(self, module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor | None:
        return torch.split(output, self._lengths)[self.rank] if module.training else None

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        self._collect(distributed.all_reduce, flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def align(self, modules: Iterable[nn.Module]) -> None:
        """Give every process the weights of process 0, so that rounding on unlike machines cannot add up."""
        if self.size == 1:
            return
        for module in modules:
            for value in module.state_dict().values():
                if value.is_floating_point():
                    self._collect(distributed.broadcast, value, 0)

    @contextmanager
    def own_randomness(self, *place: int) -> Iterator[None]:
        """Draw numbers that no other process draws; the common generator is left as it was.

        Args:
            place: what the numbers depend on besides the process: seed, epoch, step.
        """
        if self.size == 1:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(hash((*place, self.rank)) & 0x7FFF_FFFF_FFFF_FFFF)
            yield

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            self._collect(distributed.all_reduce, torch.zeros(1))  # a barrier, for any backend

    def once(self, make: Callable[[], T]) -> T:
        """What process 0 makes, on all of them; the others wait, and leave it the processors.

        Args:
            make: called on process 0 only; gives something that can be pickled.

        Raises:
            TrainingError: process 0 is gone.

        >>> ALONE.once(lambda: 7)
        7
        """
        if self.size == 1:
            return make()
        made: list[Any] = [make() if self.first else None]
        self._collect(distributed.broadcast_object_list, made, 0)
        found: T = made[0]
        return found

    def check_same(self, fingerprint: str, what: str) -> None:
        """Refuse to train together on different things.

        Args:
            fingerprint: a sha256 in hexadecimal.
            what: what it is of.

        Raises:
            TrainingError: a process has another one.
        """
        if self.size == 1:
            return
        own = torch.tensor([int(fingerprint[:15], 16)])
        found = [torch.empty_like(own) for _ in range(self.size)]
        self._collect(distributed.all_gather, found, own)
        if other := [rank for rank, value in enumerate(found) if value != found[0]]:
            raise TrainingError(
                f"process {other[0]} has {what} other than process 0: start all of them with the same options, "
                "data and files"
            )

    def _collect(self, collective: Any, *values: Any) -> None:
        try:
            collective(*values)
        except RuntimeError as error:
            raise TrainingError(
                "another process of this training is gone or cannot be reached: the last whole epoch, if there "
                f"is one, is kept; start the same command with --resume to go on ({first_line(error)})"
            ) from error


ALONE = Ranks()


class _Gather(torch.autograd.Function):
    """The rows of all processes, one below the other; see :meth:`Ranks.gather`.

    With ``summed`` the gradients of the processes are added up on the way back, since each continues with
    something of its own.
    """

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks, summed: bool) -> Tensor:
        ctx.ranks, ctx.summed = ranks, summed
        most = max(ranks._lengths)
        padded = torch.cat([part, part.new_zeros(most - len(part), *part.shape[1:])])
        found = [torch.empty_like(padded) for _ in range(ranks.size)]
        ranks._collect(distributed.all_gather, found, padded)
        return torch.cat([rows[:length] for rows, length in zip(found, ranks._lengths, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        gradient = gradients[0]
        if ctx.summed:
            gradient = gradient.contiguous()
            ctx.ranks._collect(distributed.all_reduce, gradient)
        return torch.split(gradient, ctx.ranks._lengths)[ctx.ranks.rank], None, None


@contextmanager
def ranks_of_this_run(device: str = "cpu") -> Iterator[Ranks]:
    """The processes that ``torchrun`` started together; one, where it did not.

    They talk through gloo, about what lies on GPUs (``device`` is ``cuda``) through nccl.

    Raises:
        TrainingError: the others cannot be reached, or a signal ended this one (``SystemExit``).
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    if not distributed.is_available():
        raise TrainingError(
            "this build of torch cannot train in several processes: install another, or start one"
        )
    try:
        if device == "cuda":
            torch.cuda.set_device(training_device(device))
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        distributed.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise TrainingError(
            f"the processes of this training did not find each other: start them with torchrun ({first_line(error)})"
        ) from error
    try:
        yield Ranks(distributed.get_rank(), size)
    except SystemExit as error:
        raise TrainingError(
            "torchrun ended this process, as it does when another one is gone: the last whole epoch, if there "
            "is one, is kept; start the same command with --resume to go on"
        ) from error
    finally:
        distributed.destroy_process_group()
