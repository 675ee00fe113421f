"""Names, messages and docs use the field's words: none that was retired is left."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RETIRED = re.compile(
    r"(?<![A-Za-z])(?:asking|judges?|crew|lesson|told|tell of|anew|so many|lean of|standings|verdict|rivals|shelf"
    r"|sealed|workfolder|on_features|look_through|lens|passing|posterior[-_]dual|sides_of|is no(?! longer)"
    r"|goes on|go on with|answered from|stands beside)(?![A-Za-z])",
    re.IGNORECASE,
)
RECORDS = {"posterior.md", "likeness.md", "results.md"}  # research logs and results are as they were written
FILES = [
    path
    for folder, kinds in {
        "src": ("py", "js", "html", "css"), "docs": ("md",), "benchmarks": ("py",), "runs": ("toml",)
    }.items()
    for kind in kinds
    for path in sorted((ROOT / folder).rglob(f"*.{kind}"))
    if path.name not in RECORDS
] + [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_retired_word_is_left(path: Path) -> None:
    found = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if RETIRED.search(line)
    ]
    assert not found, found[:5]
