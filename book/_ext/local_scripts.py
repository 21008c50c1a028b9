"""Let pages load their third-party scripts from book/vendor when `make book` has put them there.

Without the folder nothing is set, and pages load them from a public server: a bare `jupyter-book
build book/` works either way.
"""

from pathlib import Path


def use_vendor(app, config):
    vendor = Path(app.srcdir) / "vendor"
    if not (vendor / ".fetched").exists():
        return
    config.html_static_path = ["vendor", *config.html_static_path]
    # In this order: d3 would take itself for a module of require.js, and the widgets ask require.js
    # where anywidget is.
    scripts = ("d3.min.js", "require.js", "widget-modules.js", "embed-amd.js")
    config.nb_ipywidgets_js = {script: {} for script in scripts}
    config.mathjax_path = "tex-mml-chtml.js"
    config.mathjax_options = {"defer": "defer"}


def setup(app):
    app.connect("config-inited", use_vendor, priority=100)  # before Sphinx checks the folders
    return {"parallel_read_safe": True}
