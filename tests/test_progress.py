from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest

from anglehash.progress import Console, in_notebook


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def run(stream: io.StringIO, *, every: float = 0.0) -> str:
    progress = Console(stream, every=every)
    for done in range(4):
        progress("features", done, 3, "1 skipped" if done else "")
    progress("training", 5, 5)  # done before it began
    progress("training", 0, 2)
    progress("training", 1, 2)
    progress("codes", 0, 1)  # the stage before did not end
    progress("codes", 1, 1)
    return stream.getvalue()


def test_a_log_gets_lines() -> None:
    lines = run(io.StringIO(), every=60).splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "features 3/3",
        "training 5/5",
        "training 1/2",
        "codes 1/1",
    ]
    assert lines[0].endswith(", 1 skipped")
    assert "\r" not in "".join(lines)


def test_a_log_gets_a_line_every_so_often() -> None:
    lines = [line.split(",")[0] for line in run(io.StringIO(), every=0).splitlines()]
    assert {"features 1/3", "features 2/3", "features 3/3"} <= set(lines)


def test_a_terminal_gets_a_moving_bar_that_ends_its_line() -> None:
    text = run(Terminal())
    assert "\r" in text
    assert text.count("\n") == 4
    assert "features 3/3" in text
    assert "codes 1/1" in text


def test_a_notebook_is_known_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = SimpleNamespace(config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert in_notebook()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not in_notebook()
