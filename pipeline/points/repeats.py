"""Which points are repeats of one point: those that differ in nothing but their seed.

With `repeats_split=true` each repeat also has a split of its own. Its split seed is then the seed plus a number that
all repeats of a point share (`Config.seeds`), here the distance. Where split seeds or seeds are swept as well, points
have several distances.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pipeline.config.data import SEEDS
from pipeline.config.schema import Config
from pipeline.system.files import short_hash

SPLIT_SEED = "data.split_seed"
# The checksum of the raw rows of described data, which `reading.read_signed` adds to what was signed.
RAW_ROWS = "raw_rows"
# A seed and a split seed; None for data that is not split.
Seeds = tuple[int, int | None]
# Settings as in JSON.
Settings = Mapping[str, Any]


def seeds_of(config: Config) -> Seeds:
    """Return the seed and the split seed of a point."""
    return config.seed, getattr(config.data, "split_seed", None)


def seeds_in(config: Settings) -> Seeds:
    """Return the seed and the split seed in a config.

    Raises:
        ValueError: it is not a config.
    """
    seed = config.get("seed")
    data = config.get("data")
    if not isinstance(seed, int) or not isinstance(data, Mapping):
        raise ValueError("a config without a seed or without data")
    split_seed = data.get("split_seed")
    if split_seed is not None and not isinstance(split_seed, int):
        raise ValueError(f"split_seed {split_seed!r}")
    return seed, split_seed


def distance(seeds: Seeds) -> int | None:
    """Return how far a split seed is from its seed, modulo the number of seeds; None for data that is not split."""
    seed, split_seed = seeds
    if split_seed is None:
        return None
    return (split_seed - seed) % SEEDS


def in_order(seeds: Iterable[int]) -> list[int]:
    """Return the different ones of seeds, at least one, in the order of repeats: after the largest seed comes 0."""
    known = sorted(set(seeds))
    gaps = [(seed - known[index - 1]) % SEEDS for index, seed in enumerate(known)]
    first = gaps.index(max(gaps))
    return [*known[first:], *known[:first]]


def first_splits(seeds: Iterable[Seeds]) -> dict[int | None, int]:
    """Return the distances at which several seeds have splits of their own, each with the split seed of its first seed.

    It is empty if the same splits were made for all seeds: seeds and split seeds that are both swept also have equal
    distances, but then fewer points are without a repeat if those of one split are the repeats.
    """
    known = {(seed, split) for seed, split in seeds if split is not None}
    distances = Counter(map(distance, known))
    splits = Counter(split for _, split in known)
    if _alone(distances) > _alone(splits):
        return {}
    first: dict[int | None, int] = {}
    for one, count in distances.items():
        if one is not None and count > 1:
            start = in_order(seed for seed, split in known if distance((seed, split)) == one)[0]
            first[one] = (start + one) % SEEDS
    return first


def shown_distances(seeds: Collection[Seeds]) -> Mapping[int | None, int | str]:
    """Return what is shown for each distance at which seeds have splits of their own: its first split seed.

    If another distance or point already has that name, it is `seed+100`.
    """
    first = first_splits(seeds)
    others = {split for seed, split in seeds if distance((seed, split)) not in first}
    names = [*first.values(), *others]
    if len(set(names)) == len(names):
        return {**first}
    half = SEEDS // 2
    return {one: f"seed{((one or 0) + half) % SEEDS - half:+d}" for one in first}


def split_anew(seeds: Iterable[Seeds]) -> bool:
    """Whether each of several seeds has a split of its own."""
    known = set(seeds)
    distances = set(map(distance, known))
    return bool(distances) and distances <= first_splits(known).keys()


def groups_of_repeats(configs: Sequence[Settings]) -> list[list[int]]:
    """Group configs that are repeats of one point.

    Args:
        configs: the settings that count.

    Returns:
        Indices into `configs`, grouped, in the order of the first of each group.
    """
    alike: dict[str, list[int]] = {}
    for index, config in enumerate(configs):
        alike.setdefault(_without_seeds(config), []).append(index)
    groups: list[list[int]] = []
    for members in alike.values():
        seeds = [seeds_in(configs[index]) for index in members]
        own = first_splits(seeds)
        together: dict[tuple[bool, int | None], list[int]] = {}
        for index, one in zip(members, seeds, strict=True):
            by_distance = distance(one) in own
            # Without a split of its own for each seed, the split seed is a setting like any other.
            key = distance(one) if by_distance else one[1]
            together.setdefault((by_distance, key), []).append(index)
        groups += together.values()
    return sorted(groups)


def keys_of_points(signed: Sequence[Settings]) -> list[str]:
    """Return for each signed point (`reading.read_signed`) a hash that all repeats of one point share."""
    everything = [{**one["config"], "signed": {**_by_raw_rows(one), "config": None}} for one in signed]
    keys = [""] * len(signed)
    for members in groups_of_repeats(everything):
        content = {key: value for key, value in signed[members[0]].items() if key != RAW_ROWS}
        config = dict(content["config"])
        if split_anew(seeds_in(signed[index]["config"]) for index in members):
            content = dict(_by_raw_rows(signed[members[0]]))
            config["data"] = {**config["data"], "split_seed": f"seed + {distance(seeds_in(config))}"}
        del config["seed"]
        shared = short_hash(json.dumps({**content, "config": config}, sort_keys=True).encode())
        for index in members:
            keys[index] = shared
    return keys


def differ_in_seeds_only(one: Settings, other: Settings) -> bool:
    """Whether two signed points differ in nothing but the seed and the split seed."""
    first, second = ({**_by_raw_rows(each), "config": _without_seeds(each["config"])} for each in (one, other))
    return first == second


def _by_raw_rows(signed: Settings) -> Settings:
    """Return a signed point with its raw rows in the place of the arrays, which are those of one split."""
    if RAW_ROWS not in signed:
        return signed
    # A category without training rows has no input, so that a row of another split may be longer.
    others = {key: value for key, value in signed.items() if key not in (RAW_ROWS, "row_shape")}
    return {**others, "data": signed[RAW_ROWS]}


def _alone(counts: Counter[int | None] | Counter[int]) -> int:
    return sum(count == 1 for count in counts.values())


def _without_seeds(config: Settings) -> str:
    data = {key: value for key, value in config["data"].items() if key != "split_seed"}
    others = {key: value for key, value in config.items() if key != "seed"}
    return json.dumps({**others, "data": data}, sort_keys=True)
