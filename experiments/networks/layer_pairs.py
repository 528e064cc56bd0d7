"""Chooses pairs of layers by name, for one source network or several."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from l2t_jax import Outputs, all_pairs
from l2t_jax.pairs import Pair, check_pairs

PAIR = r"(?:(\d+):)?(\d+)-(\d+)"
# A network without stages is divided into this many.
QUARTERS = 4


def choose_pairs(text: str, sources: Sequence[Outputs], target: Outputs) -> list[Pair]:
    """The pairs of layers that ``--pairs`` asks for.

    Args:
      text: ``stages``, ``all``, ``one-to-one`` or ``single``, which apply to each source by itself;
        or a list such as ``4-0,9-1``, with several sources such as ``0:4-0,1:9-1``.
      sources: shapes of each source's outputs.
      target: shapes of the target's outputs.

    Returns:
      The pairs. Their source layers count through the feature maps of all sources, as in
      `l2t_jax.concatenate`.

    Raises:
      ValueError: the text has another form, a pair is outside the networks or is named twice, or
        there is no pair.
    """
    if re.fullmatch(rf"{PAIR}(,{PAIR})*", text):
        named = [_read(pair, text, len(sources)) for pair in text.split(",")]
    elif text in ("stages", "all", "one-to-one", "single"):
        named = [
            (number, pair)
            for number, source in enumerate(sources)
            for pair in _by_name(text, source, target)
        ]
    else:
        raise ValueError(
            "--pairs must be stages, all, one-to-one, single or a list like 4-0,9-1 (got "
            f"{text}); with several sources write 0:4-0,1:9-1"
        )
    if twice := [pair for pair, count in Counter(named).items() if count > 1]:
        number, (m, n) = twice[0]
        raise ValueError(
            f"--pairs must name each pair once (got {number}:{m}-{n} again in {text}); leave it out"
        )
    starts = first_layers(sources)
    for number, source in enumerate(sources):
        # Each source is checked by itself: a layer past its last would be the next source's first.
        own = [pair for owner, pair in named if owner == number]
        if own or not named:
            try:
                check_pairs(own, source.features, target.features)
            except ValueError as error:
                raise ValueError(f"--pairs {text}: source {number}: {error}") from None
    return [(starts[number] + m, n) for number, (m, n) in named]


def _read(pair: str, text: str, sources: int) -> tuple[int, Pair]:
    """The source and the pair that ``S:M-N`` or ``M-N`` names."""
    number, m, n = re.fullmatch(PAIR, pair).groups()  # type: ignore[union-attr]
    if number is None and sources > 1:
        raise ValueError(
            f"--pairs must name each pair's source, as there are {sources} sources (got {text}); "
            f"write its number first, such as {sources - 1}:{m}-{n}"
        )
    if int(number or 0) >= sources:
        raise ValueError(
            f"--pairs must name sources from 0 to {sources - 1} (got source {number} in {text})"
        )
    return int(number or 0), (int(m), int(n))


def _by_name(text: str, source: Outputs, target: Outputs) -> list[Pair]:
    if text == "all":
        return list(all_pairs(range(len(source.features)), range(len(target.features))))
    candidates = all_pairs(stages(source), stages(target))
    if text == "stages":
        return list(candidates)
    matched = [
        (m, n)
        for m, n in candidates
        if source.features[m].shape[1:3] == target.features[n].shape[1:3]
    ]
    return matched if text == "one-to-one" else matched[-1:]


def stages(outputs: Outputs) -> list[int]:
    """The last feature map of each size, where a network's stages end.

    A network whose feature maps all have one size, such as a vision transformer, has four stages.
    """
    sizes = [feature.shape[1:3] for feature in outputs.features]
    count = len(sizes)
    if len(set(sizes)) == 1:
        parts = min(QUARTERS, count)
        return [-(-count * part // parts) - 1 for part in range(1, parts + 1)]
    return [i for i, size in enumerate(sizes) if i + 1 == count or sizes[i + 1] != size]


def first_layers(sources: Sequence[Outputs]) -> list[int]:
    """The position of each source's first feature map among those of all sources."""
    counts = [len(source.features) for source in sources]
    return [sum(counts[:number]) for number in range(len(counts))]
