"""A network as one ONNX graph that can be taken apart where there is no torch: in a web page.

Inputs, all float32 (`b` picture, `l` layer, `h` head, `i` image token, `s` text token):

    image        [b, rgb, y, x]          the noisy picture
    t            [b]                     time in [0, 1], 1 is clean
    embeddings   [b, s, text_dim]        the encoder's vectors
    bias         [b, s]                  added to every cross-attention score: 0, or -inf on padding
                                         and on words that are hidden
    gate         [l, h]                  share of its z that a cross-attention head keeps: 1, or 0
    replacement  [l, b, h, i, d_head]    what takes the place of the rest: 0, or the mean z, say

Outputs: `clean` [b, rgb, y, x], the estimate of the clean picture, and `patterns` [l, b, h, i, s]
of cross-attention. Neutral values of the last three inputs give the network as it is. Weights are
stored in half the bytes (fp16), and computed with in fp32.
"""

import contextlib
import io
import logging
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import RelcoreError
from ..files import replacing
from .dit import D_HEAD, DiT, TextState

INPUTS = ("image", "t", "embeddings", "bias", "gate", "replacement")
OUTPUTS = ("clean", "patterns")


class _Controls:
    """A tap that gates the cross-attention heads and keeps their patterns."""

    def __init__(self, gate: Tensor, replacement: Tensor):
        self.gate, self.replacement, self.patterns = gate[..., None, None], replacement, []

    def wants(self, name: str) -> bool:
        return not name.endswith((".attn", ".result"))

    def __call__(self, name: str, value: Tensor) -> Tensor:
        if name.endswith("cross_attn.pattern"):
            self.patterns.append(value)
        if name.endswith("cross_attn.z"):
            layer = len(self.patterns) - 1
            gate = self.gate[layer]
            return gate * value + (1 - gate) * self.replacement[layer]
        return value


class Controlled(nn.Module):
    """A network with the inputs and outputs of the graph; process: makes them the clean picture."""

    def __init__(self, model: DiT, process):
        super().__init__()
        self.model, self.process = model, process

    def forward(self, image, t, embeddings, bias, gate, replacement) -> tuple[Tensor, Tensor]:
        source = self.model.caption_mlp(embeddings)
        pairs = [block.cross_attn.keys_values(source) for block in self.model.blocks]
        state = TextState([k for k, _ in pairs], [v for _, v in pairs], bias[:, None, None])
        tap, self.model.tap = self.model.tap, _Controls(gate, replacement)
        try:
            output = self.model(image, t, state)
            patterns = torch.stack(self.model.tap.patterns)
        finally:
            self.model.tap = tap
        return self.process.clean(output, image, t), patterns


def neutral(model: DiT, image: Tensor, t: Tensor, text) -> tuple[Tensor, ...]:
    """The graph's inputs for the network as it is. text: `Text` of as many prompts as pictures."""
    config = model.config
    bias = torch.zeros(text.mask.shape).masked_fill(~text.mask, -torch.inf)
    heads = (config.depth, config.heads)
    replacement = torch.zeros(heads[0], len(image), heads[1], config.grid**2, D_HEAD)
    return image, t, text.embeddings, bias, torch.ones(heads), replacement


def _halved(graph) -> None:
    """Store an onnx graph's weights as fp16, each with a cast behind it, which runtimes fold away.

    Constants stay as they are: one of them is too large for fp16.
    """
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    casts = []
    for tensor in graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < 1024 or "positions" in tensor.name:
            continue
        name, short = tensor.name, f"{tensor.name}.fp16"
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), short))
        casts.append(helper.make_node("Cast", [short], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)


def export(model: DiT, process, path: Path) -> None:
    """Write a network as an ONNX file with the inputs and outputs above; b and s may be any number.

    Raises RelcoreError without the extra "page".
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  (torch needs it)
    except ImportError as error:
        raise RelcoreError(
            f"to write an ONNX graph needs the package '{error.name}': pip install 'relcore[page]'"
        ) from error
    from ..data.encoders import Text

    config, rows, tokens = model.config, 2, 5
    text = Text(
        torch.zeros(rows, tokens, config.text_dim), torch.ones(rows, tokens, dtype=torch.bool), None
    )
    image = torch.zeros(rows, 3, config.image_size, config.image_size)
    inputs = neutral(model, image, torch.full((rows,), 0.5), text)
    b, s = torch.export.Dim("b", min=1), torch.export.Dim("s", min=1)
    shapes = ({0: b}, {0: b}, {0: b, 1: s}, {0: b, 1: s}, {}, {1: b})
    file = io.BytesIO()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of the exporter, about itself
        program = torch.onnx.export(
            Controlled(model, process).eval(),
            inputs,
            dynamo=True,
            external_data=False,
            input_names=list(INPUTS),
            output_names=list(OUTPUTS),
            dynamic_shapes=shapes,
            verbose=False,
        )
        program.save(file)
    graph = onnx.load_from_string(file.getvalue())
    _halved(graph.graph)
    graph.producer_name = graph.producer_version = graph.doc_string = ""
    for node in graph.graph.node:  # where in which file each stood: half a megabyte
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(graph)
    with replacing(path) as temporary:
        temporary.write_bytes(graph.SerializeToString(deterministic=True))
