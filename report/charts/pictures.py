"""Which pictures a page shows, and the data of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from report import numbers, rates
from report.charts import charts
from report.charts.drawing import Chart
from report.pages.speed import head

Frame = dict[str, Any]


def trade_offs(fast: Sequence[Frame], good: Sequence[Frame]) -> list[Chart]:
    """Quality against speed for each machine on which a variant has both."""
    made = []
    for hardware in dict.fromkeys(row["hardware"] for row in fast):
        points, name, score = _points(hardware, fast, good)
        if len(points) < 2:
            continue
        # Never a front through ours and others' points: they are of different machines or days.
        ours = [point for point in points if not point["published"]] or points
        front = charts.pareto(ours)
        for point in points:
            point["front"] = any(point is ours[i] for i in front)
        caption = (
            f"Quality against speed on {name}. Bars are 95 % intervals, the area of a dot is what "
            "its weights take in memory (on disk where that is unknown), and the dashed line joins "
            "the variants that none beats in both. A ring is a published result: one run, no "
            "interval of its time."
        )
        chart = charts.trade_off(f"trade-off-{hardware}", points, caption, score)
        made += [chart] if chart else []
    return made


def _points(
    hardware: str, fast: Sequence[Frame], good: Sequence[Frame]
) -> tuple[list[Frame], str, str]:
    """One point per variant of a machine: its lowest common load, the first task's first metric."""
    own = [row for row in fast if row["hardware"] == hardware]
    scores = [row for row in good if row["hardware"] == hardware]
    if not own or not scores:
        return [], "", ""
    task, metric = scores[0]["task"], scores[0]["metric"]
    rate = min(row["request_rate_rps"] for row in own)
    speeds = {(r["source"], r["variant"]): r for r in own if r["request_rate_rps"] == rate}
    points = []
    for row in scores:
        match = speeds.get((row["source"], row["variant"]))
        if (row["task"], row["metric"]) != (task, metric) or match is None:
            continue
        if numbers.is_missing(match["tpot_mean_ms"]):
            continue
        held = row["checkpoint_gib"] if row["weights_gib"] is None else row["weights_gib"]
        points.append(
            {
                "label": row["variant_name"]
                + (" (published)" if row["source"] == "published" else ""),
                "family": row["family"],
                "x": match["tpot_mean_ms"],
                "x_low": match["tpot_mean_ms_low"],
                "x_high": match["tpot_mean_ms_high"],
                "y": 100 * row["value"],
                "y_low": _percent(row["value_low"]),
                "y_high": _percent(row["value_high"]),
                "gib": held,
                "published": row["source"] == "published",
                "href": head(row, "").href,
                "x_text": f"{numbers.number(match['tpot_mean_ms'])} ms per token",
                "y_text": f"{numbers.share(row['value'])} %",
                "gib_text": f"{numbers.number(held)} GiB",
            }
        )
    return points, own[0]["hardware_name"], f"{task} {metric}"


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def speeds(hardware: str, name: str, rows: Sequence[Frame]) -> list[Chart]:
    """A sweep's curves where three or more rates were measured, and TPOT with its interval."""
    made: list[Chart | None] = []
    finite = [row for row in rows if row["request_rate_rps"] != float("inf")]
    if len({row["request_rate_rps"] for row in finite}) > 2:
        for key, title in (("tpot_p90_ms", "TPOT p90, ms"), ("output_throughput_tps", "tokens/s")):
            curve = [_datum(row, key, x=row["request_rate_rps"]) for row in finite]
            caption = f"{title} over the offered load on {name}; bars are 95 % intervals."
            made.append(
                charts.lines(
                    f"{key.split('_')[0]}-sweep-{hardware}",
                    curve,
                    caption,
                    ("requests/s offered", title),
                )
            )
    rate = min(row["request_rate_rps"] for row in rows)
    own = [_datum(row, "tpot_mean_ms") for row in rows if row["request_rate_rps"] == rate]
    own = sorted((d for d in own if d["value"] is not None), key=lambda d: (d["value"], d["label"]))
    more = f" The {charts.MOST_ROWS} fastest of {len(own)}." if len(own) > charts.MOST_ROWS else ""
    caption = (
        f"Time per output token on {name} at {rates.short(rate)}; bars are 95 % intervals.{more}"
    )
    made.append(charts.ranking(f"tpot-{hardware}", own, caption, "TPOT mean, ms (lower is faster)"))
    return [chart for chart in made if chart]


def scores(section: str, rows: Sequence[Frame]) -> Chart | None:
    """Every variant's score in the first metric, with its interval and the line of guessing."""
    own = [row for row in rows if row["metric"] == rows[0]["metric"]]
    data = [_datum(row, "value", scale=100) for row in own]
    data = sorted(data, key=lambda d: (-d["value"], d["label"]))
    chance = own[0]["chance"]
    note = " The dashed line is guessing." if chance is not None else ""
    first = own[0]
    asked = f"{first['task']} {first['metric']} on {first['hardware_name']}"
    caption = f"{asked}; bars are 95 % intervals.{note}"
    title = f"{own[0]['metric']}, %"
    return charts.ranking(f"score-{section}", data, caption, title, at=_percent(chance))


def _datum(row: Frame, key: str, scale: float = 1, **more: Any) -> Frame:
    low, high, value = row[f"{key}_low"], row[f"{key}_high"], row[key]
    published = " (published)" if row["source"] == "published" else ""
    shown = numbers.share if scale == 100 else numbers.number
    return {
        "label": row["variant_name"] + published,
        "family": row["family"],
        "value": None if value is None else value * scale,
        "low": None if low is None else low * scale,
        "high": None if high is None else high * scale,
        "text": f"{shown(value)}  [{numbers.interval(low, high, shown) or 'no interval'}]",
        "href": head(row, "").href,
        **more,
    }
