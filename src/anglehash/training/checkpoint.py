"""Training that can be killed: one whole epoch at a time is kept, without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from anglehash.errors import TrainingError
from anglehash.files import write_atomic
from anglehash.training.workdir import LOG


class Checkpoint:
    """The newest whole epoch of a run, in one file; written whole or not at all.

    The file holds the weights and the optimizer's moments as tensors, and in its metadata the schedule,
    the log and the run's identity: a run resumes its own checkpoint only.

    Args:
        path: the file, or ``None`` to keep nothing.
        identity: JSON values that must be equal for the run to be the same.
    """

    def __init__(self, path: Path | None, identity: Mapping[str, Any]) -> None:
        self._path = path
        self._identity = dict(identity)

    def save(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        log: list[dict[str, Any]],
    ) -> None:
        """Keep the state after a whole epoch, in place of the one before."""
        if self._path is None:
            return
        tensors = {
            f"{name}/{key}": value.detach().contiguous().clone()
            for name, module in modules.items()
            for key, value in module.state_dict().items()
        }
        state = optimizer.state_dict()
        for index, moments in state["state"].items():
            for key, value in moments.items():
                tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value).detach().contiguous().clone()
        facts = {
            "identity": self._identity,
            "groups": state["param_groups"],
            "schedule": {k: v for k, v in schedule.state_dict().items() if _plain(v)},
            "log": log,
        }
        write_atomic(self._path, save(tensors, metadata={"facts": json.dumps(facts)}))
        lines = "".join(json.dumps(record) + "\n" for record in log)
        write_atomic(self._path.with_name(LOG), lines.encode())

    def load(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> list[dict[str, Any]]:
        """Take up the state that was kept, if any; returns its log (empty: start again).

        Raises:
            TrainingError: the checkpoint is damaged, or it is of another run; the message lists what differs.
        """
        if self._path is None or not self._path.exists():
            return []
        try:
            with safe_open(self._path, framework="pt") as file:
                facts = json.loads(file.metadata()["facts"])
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise TrainingError(f"{self._path} is damaged ({error}): start again with --force") from error
        if different := _differences(facts["identity"], self._identity):
            raise TrainingError(
                f"cannot resume {self._path.parent}: this run differs from the one begun there in "
                f"{'; '.join(different)}. Use the same settings and data, or start again with --force"
            )
        for name, module in modules.items():
            module.load_state_dict(_under(tensors, f"{name}/"))
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _under(tensors, "optimizer/").items():
            index, _, moment = key.partition("/")
            moments.setdefault(int(index), {})[moment] = value
        optimizer.load_state_dict({"state": moments, "param_groups": facts["groups"]})
        schedule.load_state_dict(facts["schedule"])
        log: list[dict[str, Any]] = facts["log"]
        return log


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


def _plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What differs between two tables, as ``name: old -> new``.

    >>> _differences({"bits": 32, "loss": {"m": 4}}, {"bits": 64, "loss": {"m": 4}})
    ['bits: 32 -> 64']
    """
    out = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            out += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}: {a} -> {b}")
    return out
