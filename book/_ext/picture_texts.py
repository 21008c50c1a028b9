"""Pictures keep their alt text on the pages, and widgets their first frame until they are drawn.

The alt text and the class are those of the output's metadata, where `figures.show` and `controls`
put them; myst-nb reads only the cell's. Of a widget's output myst-nb shows the widget alone: the
picture beside it is added below, and the style sheet hides it once a script has drawn the widget.
"""

from docutils import nodes
from myst_nb.core.render import WIDGET_VIEW_MIMETYPE, NbElementRenderer

render_plain = NbElementRenderer.render_image


def render_image(self, data):
    [image] = render_plain(self, data)
    told = data.output_metadata.get(data.mime_type, {})
    if "alt" in told:
        image["alt"] = told["alt"]
    image["classes"] += told.get("class", "").split()
    return [image]


def keep_first_frames(app, doctree):
    for bundle in list(doctree.findall(nodes.container)):
        parts = {part["mime_type"]: part for part in bundle.children if "mime_type" in part}
        if WIDGET_VIEW_MIMETYPE in parts and "image/png" in parts:
            parts[WIDGET_VIEW_MIMETYPE] += parts["image/png"].children


def setup(app):
    NbElementRenderer.render_image = render_image
    app.connect("doctree-read", keep_first_frames)
    return {"parallel_read_safe": True}
