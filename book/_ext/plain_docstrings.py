"""Docstrings of the package are plain text: show them as they stand on the API pages, which read
reStructuredText.

`names` become literals, indented blocks are kept as they are, and nothing else means anything.
"""

import inspect
import re
import textwrap

SPECIAL = re.compile(r"([\\*|_])")


def _prose(line):
    """One line of text with its `names` as literals."""
    parts = re.split(r"(`[^`]+`)", line)
    return "".join(
        f"`{p}`" if p.startswith("`") and len(p) > 1 else SPECIAL.sub(r"\\\1", p) for p in parts
    )


def to_rst(text):
    """Paragraphs of text; indented ones are literal blocks, but for those that go on with a
    list.
    """
    out = []
    for block in re.split(r"\n[ \t]*\n", inspect.cleandoc(text)):
        lines = block.splitlines()
        if lines and all(line.startswith("    ") for line in lines):
            out += ["::", "", *textwrap.indent(textwrap.dedent(block), "    ").splitlines(), ""]
            continue
        for line in lines:
            bullet, body = line.startswith("- "), line.strip().removeprefix("- ")
            listed = out and out[-1].startswith(("- ", "  "))
            inside = listed and line.startswith("  ")
            if out and out[-1] and (bullet or listed) and not inside and bullet != bool(listed):
                out.append("")  # a list begins or ends
            out.append(("- " if bullet else "  " if inside else "") + _prose(body))
        out.append("")
    return out


def process(app, what, name, obj, options, lines):
    lines[:] = to_rst("\n".join(lines))


def skip(app, what, name, obj, skip, options):
    """Fields of a NamedTuple say only their number; fields of a data class are in its signature."""
    return (
        True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field number") else None
    )


def setup(app):
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-skip-member", skip)
    return {"parallel_read_safe": True}
