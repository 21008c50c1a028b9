"""Explorable figures: drawn in the page as vector graphics, answering to hover, focus and click.

Python computes the data and hands them over once; the page draws them with d3. The same widget
works on the static page and, with a kernel, in JupyterLab.
"""

from .fig1_network import network
from .fig3a_synopsis import synopsis
from .fig3b_screening import screening
from .fig6_circuits import circuits
from .fig7_arithmetic import arithmetic
from .live_network import live

__all__ = ["arithmetic", "circuits", "live", "network", "screening", "synopsis"]
