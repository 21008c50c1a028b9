"""The ONNX graph of a network: what it gives is what the network gives, taken apart or not."""

import numpy as np
import pytest
import torch

from relcore.data.encoders import RandomTokenEncoder
from relcore.kernels.capture import capture
from relcore.kernels.interventions import Head, ablate, mask_tokens
from relcore.model.diffusion import PROCESSES
from relcore.model.export import INPUTS, export, neutral

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extras 'page' and 'test'")
pytest.importorskip("onnxscript", reason="needs the extra 'page'")
PROMPTS = ["red square is above blue circle", "blue circle is to the left of red triangle", ""]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A small network, its process, and its graph."""
    from relcore.model.dit import DiT, DiTConfig

    torch.manual_seed(0)
    model = DiT(DiTConfig(depth=2, width=128)).eval().requires_grad_(False)
    for layer in (*(block.cross_attn.W_O for block in model.blocks), model.unembed):
        torch.nn.init.xavier_uniform_(layer.weight)
    # As checkpoints hold them.
    model.load_state_dict({n: t.bfloat16().float() for n, t in model.state_dict().items()})
    model.tap = None
    process, path = PROCESSES["flow"](), tmp_path_factory.mktemp("onnx") / "graph.onnx"
    export(model, process, path)
    return model, process, onnxruntime.InferenceSession(path), path


def inputs(model, number):
    text = RandomTokenEncoder().encode(PROMPTS[:number])
    generator = torch.Generator().manual_seed(number)
    image = torch.randn(number, 3, 64, 64, generator=generator)
    return image, torch.linspace(0.1, 0.9, number), text


def run(session, values):
    return session.run(None, {n: v.numpy() for n, v in zip(INPUTS, values, strict=True)})


@pytest.mark.parametrize("number", [1, 2, 3])
def test_neutral_inputs_give_the_network_as_it_is(exported, number):
    model, process, session, _ = exported
    image, t, text = inputs(model, number)
    with capture(model, ["blocks.*.cross_attn.pattern"]) as cache:
        wanted = process.clean(model(image, t, text), image, t)
    clean, patterns = run(session, neutral(model, image, t, text))
    np.testing.assert_allclose(clean, wanted, atol=1e-4)
    theirs = torch.stack([cache[f"blocks.{k}.cross_attn.pattern", 0] for k in range(2)])
    np.testing.assert_allclose(patterns, theirs, atol=1e-4)


def edited(model, process, image, t, text, intervention):
    """The estimate under an intervention of the kernels."""

    class Batch:
        seeds, prompts = [0] * len(image), PROMPTS[: len(image)]
        encoder = RandomTokenEncoder()

    Batch.model = model
    with capture(model, edits=intervention(Batch)):
        return process.clean(model(image, t, text), image, t)


def test_a_gate_takes_heads_out_and_a_replacement_stands_in_for_them(exported):
    model, process, session, _ = exported
    image, t, text = inputs(model, 2)
    values = list(neutral(model, image, t, text))
    values[4][1, 0] = 0
    wanted = edited(model, process, image, t, text, ablate([Head(1, 0)]))
    np.testing.assert_allclose(run(session, values)[0], wanted, atol=1e-4)
    mean = torch.randn(1, 2, 2, 64, 64, generator=torch.Generator().manual_seed(9))
    reference = {("blocks.1.cross_attn.z", 0): mean[:, :1]}
    wanted = edited(model, process, image, t, text, ablate([Head(1, 0)], reference))
    values[5][1, :, 0] = mean[0, 0, 0]
    without = run(session, values)[0]
    np.testing.assert_allclose(without, wanted, atol=1e-4)
    assert abs(without - run(session, neutral(model, image, t, text))[0]).max() > 0.01


def test_a_bias_hides_words(exported):
    model, process, session, _ = exported
    image, t, text = inputs(model, 2)
    values = list(neutral(model, image, t, text))
    values[3][text.roles == 2] = -torch.inf
    wanted = edited(model, process, image, t, text, mask_tokens(["relation"]))
    np.testing.assert_allclose(run(session, values)[0], wanted, atol=1e-4)


def test_the_process_is_part_of_the_graph(exported, tmp_path):
    model, process = exported[0], PROCESSES["iddpm"]()
    export(model, process, tmp_path / "iddpm.onnx")
    image, t, text = inputs(model, 2)
    clean, _ = run(
        onnxruntime.InferenceSession(tmp_path / "iddpm.onnx"), neutral(model, image, t, text)
    )
    np.testing.assert_allclose(clean, process.clean(model(image, t, text), image, t), atol=1e-3)


def test_weights_take_half_the_bytes_and_the_file_is_the_same_again(exported, tmp_path):
    model, process, _, path = exported
    export(model, process, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()
    parameters = sum(p.numel() for p in model.parameters())
    assert 2 * parameters < path.stat().st_size < 2.3 * parameters
