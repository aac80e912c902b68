"""The words of every take-away, in one place: Jinja templates over raw numbers.

The output is plain text; names in it come from records and are escaped where the text lands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from jinja2 import Environment, StrictUndefined, Template

from report import numbers, rates, stats

if TYPE_CHECKING:
    from report.differences.pair import Difference

CERTAINTIES = {
    "shown": "shown by a test",
    "likely": "likely, not settled",
    "interval": "by its interval, not tested",
    "noise": "cannot be told from noise",
    "one run": "one run, no interval",
    "fact": "counted, not sampled",
}

# kind: (headline, detail)
TEMPLATES: dict[str, tuple[str, str]] = {
    "service_level": (
        "{% if best %}{{ best|names }} {{ 'keeps' if best|length == 1 else 'keep' }} within the"
        " service level at {{ load }}{% if fastest %}, {{ fastest }} the fastest of"
        " them{% endif %}{% else %}No variant is sure to keep within the service level"
        "{% endif %}",
        "Service level: TTFT p90 at most {{ ttft|number }} ms, TPOT p90 at most {{ tpot|number }}"
        " ms.{% if outside %} Not within it at {{ load }}: {{ outside|names }}.{% endif %}"
        "{% if unsure %} Their intervals straddle the limit: {{ unsure|names }}.{% endif %}"
        " Highest rate kept: {% for name, rate in carried %}{{ name }} {{ rate|kept }}"
        "{{ ', ' if not loop.last else '.' }}{% endfor %}",
    ),
    "fastest": (
        "{{ best }} answers fastest at {{ load }}: {{ value|number(4) }} ms end to end"
        "{% if ties %}, not to be told from {{ ties|names }}{% endif %}",
        "{% if tpot %}Against {{ baseline }}: time per output token {{ tpot|effect }},"
        " end to end {{ e2e|effect }}, output {{ throughput|effect }}.{% endif %}",
    ),
    "throughput": (
        "{{ best }} gives the most output at {{ load }}: {{ value|number(4) }} tokens/s"
        "{% if ties %}, not to be told from {{ ties|names }}{% endif %}",
        "{% if change %}Against {{ baseline }}: {{ change|effect }}.{% endif %}"
        "{% if cap %} This load asks for {{ cap|number(4) }} tokens/s, so more could not be"
        " seen.{% endif %}",
    ),
    "smallest": (
        "{{ best }} takes the least"
        " {{ 'memory' if size == 'weights_gib' else 'space on disk' }}: {{ value|number }} GiB of"
        " weights"
        "{% if ties %}, the same as {{ ties|names }}{% endif %}",
        "{% if ratio %}{{ ratio|change }} against {{ baseline }} ({{ other|number }} GiB)."
        "{% endif %}",
    ),
    "quality_per_gib": (
        "{{ best }} gives the most quality per gigabyte: {{ value|share }} points above guessing"
        " per GiB{{ '' if size == 'weights_gib' else ' on disk' }} on {{ task }}"
        "{% if ties %}, not to be told from {{ ties|names }}{% endif %}",
        "Accuracy above chance divided by the weights"
        " {{ 'in memory' if size == 'weights_gib' else 'on disk' }}:"
        " {{ accuracy|share }} % at {{ weights|number }} GiB.",
    ),
    "saving": (
        "{{ name }} against {{ baseline }}: "
        "{% if weights %}{{ weights|change }}"
        " {{ 'memory for weights' if size == 'weights_gib' else 'weights on disk' }}{% endif %}"
        "{% if weights and tpot %}, {% endif %}"
        "{% if tpot %}{{ tpot|effect }} time per output token{% endif %}"
        "{% for each in telling %}, {{ each|gap }} on {{ each.series }}{% endfor %}",
        "{% if tpot %}At {{ load }}: TTFT {{ ttft|effect }}, end to end {{ e2e|effect }}, output"
        " {{ throughput|effect }}.{% endif %}"
        "{% for task, gaps in by_task %} On {{ task }}: {{ gaps|map('tested')|join('; ') }}."
        "{% endfor %}",
    ),
    "kernel": (
        "{% if decides %}The kernel, not the bit-width, decides: on the same weights {{ slow }}"
        " takes {{ slow_base|factor }} the time per output token of {{ baseline }}, {{ fast }}"
        " {{ fast_base|factor }}"
        "{% elif told %}Same weights, other kernel: {{ slow }} takes {{ ratio|factor }} the time"
        " per output token of {{ fast }}"
        "{% else %}Same weights, other kernel: {{ slow }} and {{ fast }} cannot be told apart"
        "{% endif %}",
        "{{ ratio|factor }} between the two at {{ load }}{{ ratio|ends }}"
        "{% if e2e %}; end to end {{ slow }} takes {{ e2e|factor }} of {{ baseline }}{% endif %}."
        " Kernels: {{ slow_kernel }}"
        " and {{ fast_kernel }}.",
    ),
    "chance": (
        "{{ name }} {{ 'has collapsed' if collapsed else 'cannot be told from guessing' }} on"
        " {{ task }}: {{ value|share }} %, guessing gives {{ chance|share }} %",
        "{% if collapsed %}{{ best }} reaches {{ top|share }} %: a loss of"
        " {{ loss|loss }}. What is left"
        "{% else %}That{% endif %} is what guessing would give over {{ n }} documents (exact"
        " binomial p {{ p|probability }}).",
    ),
    "quality_noise": (
        "{{ family }} on {{ task }}: the quality of {{ variants|names }} cannot be told from"
        " {{ baseline }}'s",
        "{% for each in gaps %}{{ each.a.name }}: {{ each|tested }}"
        "{{ '; ' if not loop.last else '. ' }}{% endfor %}"
        "{% if alone %}{{ 'Paired' if paired else 'Unpaired' }}, {{ n }} documents show 80 %"
        " of the time only differences of {{ alone|share(1) }} pp or more"
        "{% if tests > 1 and detectable %}, {{ detectable|share(1) }} pp after the correction for"
        " {{ tests }} tests{% endif %}.{% endif %}"
        "{% if blind %} Too few answers flipped to show any difference so often, even were all"
        " flips one way: {% for each in blind %}{{ each.a.name }}, {{ each.metric }}"
        "{{ '; ' if not loop.last else '.' }}{% endfor %}{% endif %}",
    ),
    "quality_change": (
        "{{ name }} {{ 'differs from' if 0 < better < shown|length else 'is better than' if better"
        " else 'is worse than' }} {{ baseline }} on {{ task }}:"
        " {% for each in shown %}{{ each|gap }}{{ ', ' if not loop.last }}{% endfor %}",
        "Of {{ n }} documents: {% for each in gaps %}{{ each|tested }}"
        "{% if each.paired %}, {{ each.gained }} gained and {{ each.lost }} lost{% endif %}"
        "{{ '; ' if not loop.last else '.' }}{% endfor %}",
    ),
    "families": (
        "{% if held == tests %}{{ upper }} is above {{ lower }} on {{ task }} in each of"
        " {{ tests }} comparisons"
        "{% elif ordered and (held or single) %}{{ upper }} is likely above {{ lower }} on"
        " {{ task }}: {{ held }} of {{ tests }} comparisons hold after correction"
        "{% else %}{{ upper }} and {{ lower }} cannot be ordered on {{ task }}: {{ held }} of"
        " {{ tests }} comparisons hold after correction{% endif %}",
        "By {{ metric }}: gaps of {{ low|points(1) }} to {{ high|points(1) }} pp, {{ single }} of"
        " {{ tests }} with p below 0.05 one by one; after Holm's correction the smallest"
        " p {{ p_low|probability }}, the largest {{ p_high|probability }}."
        "{% if left_out %} Left out, being no better than guessing: {{ left_out|names }}."
        "{% endif %}"
        "{% if held < tests and not paired %} A paired test on the same documents would be"
        " sharper.{% endif %}",
    ),
    "load_cap": (
        "Output at {{ load }} cannot exceed {{ cap|number(4) }} tokens/s, which hides"
        " {{ 'most' if most else 'part' }} of the difference",
        "{{ best }} reaches {{ reached|share(0) }} % of that. Against {{ other }} its output is"
        " {{ throughput|change }} while its time per output token is {{ tpot|change }}."
        "{% if unthrottled %} The unthrottled load shows what each can give.{% endif %}",
    ),
    "fit": (
        "{{ name }} fits with the least room: {{ weights|number(4) }} GiB of weights"
        "{% if memory %} of {{ memory|number }} GiB{% endif %} leave {{ tokens|whole }} tokens of"
        " KV cache",
        "The most room has {{ other }}: {{ least|number(4) }} GiB of weights,"
        " {{ most|whole }} tokens of KV cache.",
    ),
    "failed": (
        "{{ count }} newest {{ 'run' if count == 1 else 'runs' }} failed: {{ variants|names }}",
        "{% for each in runs %}{{ each.name }}, {{ each.stage }}: {{ each.error or 'no message' }}"
        "{{ '; ' if not loop.last else '.' }}{% endfor %}",
    ),
    "mixed_machines": (
        "The results under {{ hardware }} come from {{ found|length }} different machines",
        "{% for machine, variants in found %}{{ machine }}: {{ variants|names }}"
        "{{ '; ' if not loop.last else '. ' }}{% endfor %}"
        "Differences between them are partly the machines'.",
    ),
    "disturbed": (
        "{{ variants|names }} ran"
        "{% if throttled %} with limited clocks"
        "{% if reasons %} ({{ reasons|join(', ') }}){% endif %}{% endif %}"
        "{{ ' and' if throttled and shared }}"
        "{{ ' beside another process' if shared }}",
        "{% if 'power cap' in reasons %}A power cap is normal for a GPU at full load, but it holds"
        " the clocks down: under another limit the same card gives other numbers.{% endif %}"
        "{% if throttled and reasons != ['power cap'] %} Clocks limited by heat or hardware make"
        " a result too slow: measure again on a cool machine.{% endif %}"
        "{% if shared %} Another process took part of the GPU: measure again on an idle"
        " one.{% endif %}",
    ),
    "random_weights": (
        "{{ variants|names }} ran with random weights: speed only",
        "Random weights take the same memory and time; what they answer means nothing.",
    ),
    "noise_floor": (
        "Measured again on {{ machine }}, the same variant differed by at most"
        " {{ (floor - 1)|share(1) }} %",
        "The widest of {{ pairs }} {{ 'measurement' if pairs == 1 else 'measurements' }} taken"
        " twice: {{ metric }}, {{ load }}, {{ name }}, {{ apart }} apart. No difference between"
        " variants inside what its load and metric drifted is called a finding.",
    ),
    "unstable": (
        "{{ machine }} is not stable: the same variant measured twice, {{ apart }} apart, differed"
        " by {{ (floor - 1)|share(1) }} %",
        "{{ name }}, {{ metric }}, {{ load }}: {{ ratio.estimate|change }}{{ ratio|ends }}, p"
        " {{ ratio.p_adjusted|probability }} after correction. Repeats share one server session,"
        " so their intervals do not cover this; a difference between variants inside what its load"
        " and metric drifted is called noise here.",
    ),
    "unrepeated": (
        "Nothing was measured twice on {{ machine }}: intervals cover repeats within one server"
        " session only",
        "How far sessions lie apart is unknown there, and a small difference may be that. To know,"
        " measure {{ name }} again: bench run --force --stages speed --variants {{ variant }}"
        " --hardware {{ hardware }}.",
    ),
}


def sentence(kind: str, part: Literal["headline", "detail"], params: Mapping[str, Any]) -> str:
    """A finding's words; the template names every parameter it needs, so a missing one raises."""
    return _template(kind, part).render(params).strip()


@cache
def _template(kind: str, part: str) -> Template:
    environment = Environment(undefined=StrictUndefined, autoescape=False)  # noqa: S701 plain text
    environment.filters |= {
        "names": _names,
        "number": numbers.number,
        "whole": numbers.whole,
        "share": numbers.share,
        "points": numbers.points,
        "change": numbers.change,
        "factor": _factor,
        "effect": _effect,
        "gap": _gap,
        "tested": _tested,
        "ends": _ends,
        "kept": _kept,
        "loss": _loss,
        "probability": probability,
    }
    return environment.from_string(TEMPLATES[kind][part == "detail"])


def probability(p: float | None) -> str:
    """A p-value with its relation, two significant digits: = 0.42, < 0.001."""
    if p is None:
        return numbers.UNKNOWN
    return "< 0.001" if p < 0.001 else f"= {p:.2f}" if p >= 0.095 else f"= {p:.3f}"


def _names(names: Sequence[str]) -> str:
    """At most five names: a, b and c."""
    shown = list(names) if len(names) <= 5 else [*names[:4], f"{len(names) - 4} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _ratio(value: stats.Verdict | float | None) -> float | None:
    return value.estimate if isinstance(value, stats.Verdict) else value


def _factor(value: stats.Verdict | float | None) -> str:
    return f"{numbers.number(_ratio(value))}×"


def _effect(verdict: stats.Verdict | None) -> str:
    """A ratio as a change, or from twice on as a factor; marked where it may be noise."""
    if verdict is None or verdict.estimate is None:
        return numbers.UNKNOWN
    noise = " (cannot be told from noise)" if verdict.outcome == "noise" else ""
    noise = " (cannot be told from the machine's drift)" if verdict.drifts else noise
    return (_factor(verdict) if verdict.estimate >= 2 else numbers.change(verdict.estimate)) + noise


def _gap(test: Difference) -> str:
    """A difference of a share in percentage points, with its metric unless that is plain `acc`."""
    noise = " (cannot be told from noise)" if test.verdict.outcome == "noise" else ""
    metric = "" if test.metric == "acc" else f" {test.metric}"
    return f"{numbers.points(test.verdict.estimate)} pp{metric}{noise}"


def _tested(test: Difference) -> str:
    """A difference with its metric, interval, test and p."""
    return f"{test.metric} {_loss(test.verdict)}"


def _loss(verdict: stats.Verdict) -> str:
    """A difference of shares with its interval, test and p."""
    text = f"{numbers.points(verdict.estimate)} pp"
    if verdict.interval is None:
        return f"{text}, not tested"
    low, high = (numbers.points(end) for end in (verdict.interval.low, verdict.interval.high))
    corrected = verdict.p_adjusted is not None and verdict.p_adjusted != verdict.p
    more = f", corrected {probability(verdict.p_adjusted)}" if corrected else ""
    return (
        f"{text} ({100 * verdict.interval.level:.0f} % interval {low} to {high}; {verdict.test},"
        f" p {probability(verdict.p)}{more})"
    )


def _ends(verdict: stats.Verdict) -> str:
    if verdict.interval is None:
        return ""
    low, high = numbers.number(verdict.interval.low), numbers.number(verdict.interval.high)
    return f" (95 % interval {low}× to {high}×)"


def _kept(rate: float | None) -> str:
    """The highest rate kept within the service level."""
    return "none of those tried" if rate is None else rates.short(rate)
