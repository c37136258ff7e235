"""What many measurements come to, and the tables of that.

Rates of different rounds are not comparable on a machine that does other things too; those of one round
are. So each is also divided by the direct connection's of the same round, and it is these ratios whose
median counts.
"""

import math
import random
from statistics import fmean, median

from .workloads import WORKLOADS

BASE = "direct"

# How often rounds are drawn again for the bound of their mean.
DRAWS = 10_000


def spread(values):
    """Median, least and greatest, or None without values."""
    return {"median": median(values), "min": min(values), "max": max(values)} if values else None


def bound(differences):
    """What their mean is not above, 95 of 100 times (bootstrap, one-sided)."""
    source = random.Random(1)
    means = sorted(fmean(source.choices(differences, k=len(differences))) for _ in range(DRAWS))
    return means[math.ceil(0.95 * DRAWS) - 1]


def summary(samples):
    """Of the samples of one workload, {peer: [sample or None, one a round]}: what each peer comes to."""
    result = {}
    for peer, rounds in samples.items():
        done = [sample for sample in rounds if sample]
        if not done:
            continue
        pairs = zip(rounds, samples.get(BASE, []))
        figures = {
            "rate": spread([sample["rate"] for sample in done]),
            "ratio": spread([own["rate"] / base["rate"] for own, base in pairs if own and base]),
            "cost": spread([sample["cost"] for sample in done]),
            "rounds": len(done),
        }
        for key in ("p50", "p99"):
            figures[key] = spread([sample[key] for sample in done if key in sample])
        if "failures" in done[0]:
            figures["failures"] = sum(sample["failures"] for sample in done)
        result[peer] = figures
    return result


def number(value):
    """Three digits that count; whole numbers from 1,000 on, in groups."""
    return f"{value:,.0f}" if value >= 999.5 else f"{value:#.3g}".rstrip(".")


def with_range(figure, form):
    return f"{form(figure['median'])} ({form(figure['min'])}-{form(figure['max'])})"


def columns(workload, figures):
    """The table of one workload: its head, and a row a peer."""
    head = ["", WORKLOADS[workload].unit, "of direct", WORKLOADS[workload].cost_unit]
    timed = any(figure["p50"] for figure in figures.values())
    failing = any("failures" in figure for figure in figures.values())
    head += ["p50 / p99 µs"] * timed + ["failures"] * failing
    rows = []
    for peer, figure in figures.items():
        row = [peer, with_range(figure["rate"], number)]
        row.append(with_range(figure["ratio"], "{:.2f}".format) if figure["ratio"] and peer != BASE else "")
        row.append(number(figure["cost"]["median"]) if peer != BASE else "")
        if timed:
            row.append(f"{number(figure['p50']['median'])} / {number(figure['p99']['median'])}")
        if failing:
            row.append(f"{figure['failures']:,}")
        rows.append(row)
    return head, rows


def table(head, rows):
    """A Markdown table that reads as text, too."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join("| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
                     for line in lines)


def markdown(results):
    """All tables of one run."""
    parts = []
    for workload, samples in results["samples"].items():
        if figures := summary(samples):
            parts += [f"**{WORKLOADS[workload].title}**", table(*columns(workload, figures))]
    machine = results["machine"]
    parts.append(f"{machine['processors']} processors, Linux {machine['kernel']}; rounds: {results['rounds']}, seconds "
                 f"a measurement: {results['seconds']:g}; median (least-greatest).")
    others = spread([sample["others"] for samples in results["samples"].values()
                     for rounds in samples.values() for sample in rounds if sample])
    if others:
        parts.append(f"Whatever else ran on the machine took {others['median']:.2f} processors meanwhile "
                     f"(median), {others['max']:.2f} at the most.")
    versions = [f"{peer} {version}" for peer, version in results["peers"].items() if version]
    parts.append("Versions: " + ", ".join(versions) + ".")
    parts += [f"Not measured: {peer} ({reason})." for peer, reason in results["skipped"].items()]
    parts += [f"Without a figure: {failure}." for failure in results["failed"]]
    return "\n\n".join(parts)


def put_into(path, name, text):
    """Replaces what is in a file between two lines that are a comment of this name."""
    mark = f"<!-- {name} -->\n"
    with open(path, encoding="utf-8") as file:
        parts = file.read().split(mark)
    if len(parts) != 3:
        raise SystemExit(f"{path}: there are not two lines {mark.strip()}")
    parts[1] = f"\n{text}\n\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(mark.join(parts))
