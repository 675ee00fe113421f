"""What a reader of a benchmark has to know: how it was measured, tuned and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from anglehash.benchmark.report.leaderboard import Leaderboard, Variant
from anglehash.report.values import mapping, number, sequence

Result = Mapping[str, Any]

LEARNED_FROM = "learned from training and validation images"
"""Of the references: the methods learn from the training images only."""

_KIND_WORDS = {"deep": "deep", "classical": "conventional"}
_LEVEL = {
    "seed": "± is the standard deviation over training seeds on one split. Where two methods differ by less than the "
    "larger of their two deviations, the page calls them level: more seeds might turn them round. Another draw of "
    "the split moves all scores more than that; where it was measured, it has its own column.",
    "draw": "Each draw keeps other classes out of training, and all methods see the same draws. ± is the standard "
    "deviation over draws, seeds averaged inside a draw; most of it is how hard the classes are, which is the same "
    "for all. So two methods are compared draw by draw: the page calls them level where the mean of their "
    "differences is smaller than twice its standard error, which is the standard deviation of these differences "
    "divided by the square root of their number.",
}
_TIES = (
    "Codes of K bits have only K + 1 distances, so most of a ranking is tied. mAP here is the exact mean over all "
    "orders of tied items: it does not depend on how the database happens to be sorted."
)
_AGREEMENT = (
    "Ranks by the probability of sharing a label, as a calibrated classifier on the frozen features of the backbone "
    f"sees it, {LEARNED_FROM}; the methods learn from the training images only. It is a reference, not a bound. The "
    "class-id code keeps that classifier’s answer alone."
)
_UNTRAINED = (
    "What one would use without training a hash: the features themselves, or their compression. They have no code "
    "length of their own, so they stand at the bytes that they need."
)


def how_to_read(leaderboard: Leaderboard, result: Result) -> dict[str, str]:
    """Names of what needs an explanation, with it."""
    seen = "images" if mapping(result.get("place")).get("fine_tuned") else "features"
    harness = (
        f"All methods see the same {seen}, splits, seeds and code lengths, and are measured by the same code."
    )
    tuned = tuning_words(leaderboard, result)
    return {
        "One harness": harness,
        **({"Tuning": tuned} if tuned else {}),
        "± and level": _LEVEL[leaderboard.run],
        "Ties": _TIES,
        "Posterior agreement": _AGREEMENT,
        "Untrained": _UNTRAINED,
    }


def tuning_words(leaderboard: Leaderboard, result: Result) -> str:
    """How many variants were tuned, with how many trials, and which were not; nothing where none was."""
    trained = [variant for variant in leaderboard.variants.values() if variant.trained]
    tuned = [variant for variant in trained if _trials(variant)]
    if not tuned:
        return ""
    budgets = [_budget(kind, tuned) for kind in dict.fromkeys(variant.kind for variant in tuned)]
    some = f"The settings of {len(tuned)} variant{'s' * (len(tuned) > 1)}"
    verb = "were chosen by cross-validation inside the training part"
    words = f"{some} {verb}{_apart(leaderboard, result)}: {', '.join(budgets)}."
    others = [variant.name for variant in trained if variant not in tuned]
    return words + (f" Not tuned, settings as given in the run file: {', '.join(others)}." if others else "")


def _apart(leaderboard: Leaderboard, result: Result) -> str:
    """Where the queries are of classes kept out of training, the tuning may have known these classes."""
    splits = map(mapping, sequence(result.get("splits")))
    held_out = leaderboard.draws or any(sequence(split.get("held_out")) for split in splits)
    return " of the run that tuned them" if held_out else ", never on queries"


def _budget(kind: str, tuned: Sequence[Variant]) -> str:
    trials = [_trials(variant) for variant in tuned if variant.kind == kind]
    called = f"{len(trials)} {_KIND_WORDS.get(kind, kind)}"
    if min(trials) < max(trials):
        return f"{called} with up to {max(trials):,.0f} trials"
    return f"{called} with {trials[0]:,.0f} trial{'s' * (trials[0] != 1)}{' each' * (len(trials) > 1)}"


def _trials(variant: Variant) -> float:
    return max(number(variant.tuned.get("trials")) or 0, 0)
