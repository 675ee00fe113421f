from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from anglehash.serve.report.standings import Standings
from anglehash.serve.report.verdict import noise_note, verdict


def standings(scores: Mapping[str, Mapping[int, Sequence[float]]], **kinds: str) -> Standings:
    """Name -> bits -> one mAP a seed."""
    cells: list[dict[str, Any]] = [
        {"variant": name, "method": name.split(",")[0].casefold(), "kind": kinds.get(name, "deep"),
         "bits": bits, "seed": seed, "map": score}
        for name, own in scores.items()
        for bits, maps in own.items()
        for seed, score in enumerate(maps)
    ]  # fmt: skip
    return Standings.of({"cells": cells})


def at_32(**scores: float) -> Standings:
    return standings({name: {32: (score - 0.001, score, score + 0.001)} for name, score in scores.items()})


def test_a_lead() -> None:
    assert verdict(at_32(AnDSH=0.620, CSQ=0.609)) == "AnDSH leads at 32 bits, 0.011 ahead of CSQ."


def test_a_loss() -> None:
    assert verdict(at_32(AnDSH=0.598, CSQ=0.609, DPN=0.59)) == (
        "CSQ leads at 32 bits (mAP 0.609). AnDSH is second at 32 bits, 0.011 behind CSQ."
    )


def test_a_tie_is_no_win_and_no_loss() -> None:
    seeds = {"AnDSH": {32: (0.59, 0.60, 0.61)}, "CSQ": {32: (0.604, 0.605, 0.606)}}  # .005 < .01
    assert verdict(standings(seeds)) == "AnDSH is level with CSQ at the top at 32 bits."
    seeds = {"AnDSH": {32: (0.60, 0.61, 0.62)}, "CSQ": {32: (0.604, 0.605, 0.606)}}
    assert verdict(standings(seeds)) == "AnDSH is level with CSQ at the top at 32 bits."


def test_lengths_of_the_same_outcome_are_told_together() -> None:
    means = {"AnDSH": (0.55, 0.58, 0.61, 0.62), "CSQ": (0.50, 0.59, 0.62, 0.65), "DPN": (0.4, 0.6, 0.5, 0.5)}
    found = standings(
        {name: {12 * 2**i: (score,) for i, score in enumerate(own)} for name, own in means.items()}
    )
    assert verdict(found) == (
        "DPN leads at 24 bits (mAP 0.600); CSQ leads at 48 and 96 bits (mAP 0.620 and 0.650). "
        "AnDSH leads at 12 bits, 0.050 ahead of CSQ; it is third at 24 bits, 0.020 behind DPN; "
        "it is second at 48 and 96 bits, 0.010 and 0.030 behind CSQ."
    )


def test_the_same_at_every_length() -> None:
    lengths = (8, 16, 32, 64)
    found = standings({"AnDSH": dict.fromkeys(lengths, (0.6,)), "CE": dict.fromkeys(lengths, (0.5,))})
    assert verdict(found) == "AnDSH leads at every length, 0.100 ahead of CE."
    gaps = standings(
        {"AnDSH": {b: (0.6 - i / 50,) for i, b in enumerate(lengths)}, "CE": dict.fromkeys(lengths, (0.5,))}
    )
    assert verdict(gaps) == "AnDSH leads at every length, 0.040 to 0.100 ahead of CE."


def test_others_that_are_level_at_the_top() -> None:
    assert verdict(at_32(CSQ=0.6, DPN=0.6, HyP=0.6, CE=0.6, AnDSH=0.5)) == (
        "CSQ, DPN and 2 more are level at the top at 32 bits (mAP 0.600). AnDSH is fifth at 32 bits, "
        "0.100 behind CSQ."
    )


def test_the_order_of_those_that_are_level_does_not_matter() -> None:
    noisy = (0.58, 0.60, 0.62)
    found = standings(
        {"CSQ": {16: noisy, 32: (0.585, 0.605, 0.625)}, "DPN": {16: (0.585, 0.605, 0.625), 32: noisy}}
    )
    assert verdict(found) == "CSQ and DPN are level at the top at 16 and 32 bits (mAP 0.605)."


def test_an_untrained_one_may_lead_but_a_reference_may_not() -> None:
    scores = {"AnDSH": {32: (0.3,)}, "PQ": {32: (0.4,)}, "ceiling": {32: (0.7,)}}
    assert verdict(standings(scores, PQ="rival", ceiling="reference")) == (
        "PQ leads at 32 bits (mAP 0.400). AnDSH is second at 32 bits, 0.100 behind PQ."
    )


def test_without_andsh_and_with_andsh_alone() -> None:
    assert verdict(at_32(CSQ=0.6, DPN=0.5)) == "CSQ leads at 32 bits (mAP 0.600)."
    assert verdict(at_32(AnDSH=0.6)) == "AnDSH is the only one measured at 32 bits."
    assert verdict(Standings.of({})) == ""


def test_andsh_is_not_measured_at_every_length() -> None:
    found = standings({"AnDSH": {16: (0.6,)}, "CSQ": {16: (0.5,), 32: (0.7,)}})
    assert verdict(found) == "CSQ leads at 32 bits (mAP 0.700). AnDSH leads at 16 bits, 0.100 ahead of CSQ."


def test_speaks_of_the_plain_form_among_several() -> None:
    found = at_32(**{"andsh, posterior": 0.7, "AnDSH": 0.6})
    assert verdict(found) == (
        "“andsh, posterior” leads at 32 bits (mAP 0.700). AnDSH is second at 32 bits, "
        "0.100 behind “andsh, posterior”."
    )
    assert verdict(at_32(**{"AnDSH, a": 0.6, "AnDSH, b": 0.7})).endswith(
        "“AnDSH, a” is second at 32 bits, 0.100 behind “AnDSH, b”."
    )


@pytest.mark.parametrize("name", ["{", "}{0}", "{at}", "{gap!r:>9}", "%s"])
def test_a_name_may_hold_anything(name: str) -> None:
    assert f"behind {name}." in verdict(at_32(**{name: 0.7, "AnDSH": 0.6}))


def test_says_what_the_seeds_allow() -> None:
    one, three = {32: (0.5,)}, {32: (0.5, 0.5, 0.6)}
    assert noise_note(standings({"a": one})).startswith("One seed only")
    assert "one seed only" not in noise_note(standings({"a": three})).casefold()
    assert noise_note(standings({"a": three, "b": one})).endswith("so their own noise is not known.")
    assert "one seed" not in noise_note(standings({"a": three, "PQ": one}, PQ="rival")).casefold()
    assert noise_note(Standings.of({})) == ""
