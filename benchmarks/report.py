"""The table in a terminal, row by row, and the whole as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from benchmarks.growth import Growth
from benchmarks.measuring import Result, spread

COLUMNS = "{:<20} {:>7} {:>8}  {:<7} {:<34} {}"
HEAD = COLUMNS.format("benchmark", "ratio", "goal", "", "ours: median (range)", "theirs")


def goal(value: float) -> str:
    """A goal as the table prints it: `<= 0.9`, `<= 1/8`."""
    return f"<= 1/{1 / value:.0f}" if value < 0.5 else f"<= {value:g}"


def row(result: Result) -> str:
    """One line of the table in a terminal."""
    if result.missing:
        return f"{result.benchmark.name:<20} not measured: {result.missing}"
    ours, theirs = (f"{spread(values)} {result.benchmark.unit}" for values in (result.ours, result.theirs))
    verdict = "met" if result.met else "missed"
    name, held_to = result.benchmark.name, goal(result.benchmark.goal)
    return COLUMNS.format(name, f"{result.ratio:.3f}", held_to, verdict, ours, theirs).rstrip()


def growth_lines(growth: Growth) -> Iterator[str]:
    """A series as a Markdown table, and what its exponents are; plain enough for a terminal."""
    sizes = growth.series.sizes
    yield f"| {growth.series.what} | " + " | ".join(f"{size:,}" for size in sizes) + " | exponent |"
    yield "| --- |" + " ---: |" * (len(sizes) + 1)
    for name, values, power in zip(("seconds", "MiB"), (growth.seconds, growth.memory), growth.exponents, strict=True):
        fitted = "none" if math.isnan(power) else f"{round(power, 2) + 0.0:.2f}"
        yield f"| {name} | " + " | ".join(f"{value:.3g}" for value in values) + f" | {fitted} |"


def render(
    results: Sequence[Result],
    growths: Sequence[Growth],
    machine: Mapping[str, str],
    versions: Mapping[str, str],
    run: Mapping[str, str],
) -> str:
    """The report.

    Args:
        results: the goals that were measured, or could not be.
        growths: how time and memory grow with a size.
        machine: what it was measured on.
        versions: of the packages.
        run: when, for how long, from which commit.
    """
    measured = [result for result in results if not result.missing]
    met = sum(result.met for result in measured)
    lines = [
        "# Benchmarks",
        "",
        f"Written by `make bench`. Of {len(results)} goals {met} are met, {len(measured) - met} missed and "
        f"{len(results) - len(measured)} not measured. A ratio is the median of ours over the median of theirs.",
        "",
        *_results(results),
        "",
        "## How it was measured",
        "",
        "In one run, on a machine that should have nothing else to do: its load when the run began stands below. The "
        "two of a row take turns, and which comes first changes from round to round; in brackets stand the smallest "
        "and the largest of the rounds. The commands are whole processes, the others functions in one process, after "
        "what happens once (imports, compiling, the first epoch). An epoch is the time from the end of the first to "
        "the end of the third, halved.",
        "",
        *(f"- `{result.benchmark.name}`: {result.benchmark.how}" for result in results),
        "",
        "## Growth",
        "",
        "Seconds and peak memory of NumPy training, each size in a process of its own. Memory is what the process took "
        "beyond what it had before the data was there. The exponent is that of size in value = a * size^b, by least "
        "squares of the logarithms over all the sizes of the row.",
        "",
    ]
    for growth in growths:
        lines += [f"**{growth.series.what.capitalize()}**: {growth.series.fixed}.", "", *growth_lines(growth), ""]
    lines += ["## The machine", ""]
    for facts in (machine, run):
        lines += [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["- versions: " + ", ".join(f"{name} {value}" for name, value in versions.items())]
    return "\n".join(lines) + "\n"


def _results(results: Sequence[Result]) -> Iterator[str]:
    yield "| name | what | against | goal | measured | | ours | theirs | rounds |"
    yield "| --- | --- | --- | ---: | ---: | --- | --- | --- | ---: |"
    for result in results:
        benchmark = result.benchmark
        said = [f"`{benchmark.name}`", benchmark.what, benchmark.against, goal(benchmark.goal)]
        if result.missing:
            said += ["", f"not measured: {result.missing}", "", "", ""]
        else:
            said += [f"**{result.ratio:.3f}**", "met" if result.met else "missed"]
            said += [f"{spread(values)} {benchmark.unit}" for values in (result.ours, result.theirs)]
            said += [str(len(result.ours))]
        yield "| " + " | ".join(said) + " |"
