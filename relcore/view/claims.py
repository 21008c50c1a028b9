"""The claims ledger as a page: HTML that needs no script, fits a phone and reads in the light and
the dark theme.
"""

from html import escape

VERDICTS = ("reproduced", "partly", "not reproduced", "untested")
STYLE = """<style>
.claims details, .claims > ul > li { border-bottom: 1px solid rgba(128, 128, 128, .35);
  padding: .45em 0 }
.claims > ul { list-style: none; padding: 0 }
.claims summary { cursor: pointer }
.claims li, .claims code { overflow-wrap: anywhere; white-space: normal }
.claims .v { display: inline-block; min-width: 8.2em; text-align: center; border-radius: .8em;
  padding: 0 .5em;
  margin-right: .4em; font-size: .85em; color: #fff }
.claims .v0 { background: #1f7a45 } .claims .v1 { background: #8a5a00 }
.claims .v2 { background: #a8323e } .claims .v3 { background: #666 }
</style>"""


def shown(value: float) -> str:
    return "-" if value != value else f"{value:.0f}" if abs(value) >= 10 else f"{value:.2f}"


def interval(check: dict) -> str:
    """A check's value, its interval if it has one, and n."""
    ends = (
        "" if check["low"] != check["low"] else f" [{shown(check['low'])}, {shown(check['high'])}]"
    )
    return f"{shown(check['value'])}{ends}, n = {check['n']}"


def wanted(test: dict) -> str:
    """A test's ranges in words: "at least 0.95 (partly: at least 0.8)"."""

    def words(pair: list) -> str:
        low, high = pair
        if None not in pair:
            return f"{low:g}" if low == high else f"{low:g} to {high:g}"
        return f"at least {low:g}" if high is None else f"at most {high:g}"

    return words(test["reproduced"]) + (
        f" (partly: {words(test['partly'])})" if "partly" in test else ""
    )


def held(claim: dict) -> str:
    """How many of a judged claim's checks are reproduced: "7 of 8"."""
    reproduced = sum(check["verdict"] == "reproduced" for check in claim["checks"])
    return f"{reproduced} of {len(claim['checks'])}"


def html(claims: list[dict], brief: bool = False) -> str:
    """Judged claims as HTML: a line a claim, which opens to its tests unless `brief`."""
    parts = []
    for claim in claims:
        said = {key: escape(value) for key, value in claim.items() if isinstance(value, str)}
        verdict = f'<span class="v v{VERDICTS.index(claim["computed"])}">{said["computed"]}</span>'
        head = f"{verdict} <b>{said['id']}</b> "
        page = (
            f'<a href="{said["chapter"]}.html{"#" + said["figure"] if "figure" in said else ""}">'
        )
        count = f" ({held(claim)})" if claim["checks"] else ""
        if brief:
            parts.append(f"<li>{head}{page}{said['claim']}</a>{count}</li>")
            continue
        checks = "".join(
            f"<li>{escape(check['what'])}, {escape(check['model'])}: <b>{interval(check)}</b>; "
            f"wanted {check['wanted']}: {check['verdict']}</li>"
            for check in claim["checks"]
        )
        parts.append(
            f"<details><summary>{head}{said['claim']}{count}</summary>"
            f"<p>Paper, {said['place']}: {said['says']} "
            f"<i>{said['number']}</i></p><ul>{checks}</ul>"
            f"<p>{said['note']}</p><p>{page}Chapter and figure</a>; made by "
            f"<code>{said['command']}</code></p>"
            "</details>"
        )
    body = f"<ul>{''.join(parts)}</ul>" if brief else "".join(parts)
    return f'{STYLE}<div class="claims">{body}</div>'
