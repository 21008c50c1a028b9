"""The network in the page: what its script does without the network is what Python does."""

import json
import shutil
import subprocess

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relcore.data.prompts import (
    COLORS,
    FILLERS,
    PHRASE_RELATION,
    PHRASES,
    SHAPES,
    SYNONYMS,
    TEMPLATES,
    parse,
    suite,
)
from relcore.data.scenes import render, sample_scenes
from relcore.data.scoring import METRICS, detect, score
from relcore.errors import RelcoreError
from relcore.model.diffusion import PROCESSES, SAMPLERS, initial_noise
from relcore.view.explore import live_network as live
from relcore.view.explore.base import HERE

NODE = shutil.which("node")
pytestmark = pytest.mark.skipif(not NODE, reason="needs Node.js")
# Reads a call a line, [function, ...arguments], and answers each with a line.
LOOP = """
const E = engine();
for (const line of require("fs").readFileSync(0, "utf8").trim().split("\\n")) {
  const [name, ...rest] = JSON.parse(line), plain = (x) => (x.BYTES_PER_ELEMENT ? [...x] : x);
  try { console.log(JSON.stringify({ value: plain(E[name](...rest)) })); }
  catch (error) { console.log(JSON.stringify({ refused: error.message })); }
}"""


def told(calls):
    """What the page's script answers to calls (function, *arguments)."""
    script = (HERE / "live_engine.js").read_text(encoding="utf-8") + LOOP
    lines = "\n".join(json.dumps(call) for call in calls)
    done = subprocess.run([NODE, "-e", script], input=lines, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_seed_is_the_noise_of_torch():
    seeds, size = [0, 1, 1000, 2**32 - 1], 64
    answers = told([("noise", seed, 3 * size * size) for seed in seeds])
    for answer, noise in zip(answers, initial_noise(seeds, size), strict=True):
        np.testing.assert_allclose(answer["value"], noise.flatten().numpy(), atol=1e-5)


def read(text):
    """A prompt as Python reads it, in the form of the page's."""
    try:
        prompt = parse(text)
    except RelcoreError as error:
        return {"refused": str(error)}
    spans = [list(span) for span in prompt.spans]
    names = {"text": text, "relation": prompt.relation, "spans": spans}
    return {"value": names | {"colors": list(prompt.colors), "shapes": list(prompt.shapes)}}


WORDS = [*COLORS, *SHAPES, *SYNONYMS, *FILLERS, *PHRASE_RELATION, "purple", "it's", 'a"b', "\\"]


def test_the_book_gets_the_networks_that_its_pages_show(tmp_path, monkeypatch):
    state = {"data": {"networks": [{"part": "b"}, {"part": "a"}, {"title": "another figure"}]}}
    shown = {"widgets": {"any": {"state": {"1": {"state": state}, "2": {"state": {}}}}}}
    for name, metadata in {"one": shown, "two": shown, "three": {}}.items():
        (tmp_path / f"{name}.ipynb").write_text(json.dumps({"metadata": metadata}))
    monkeypatch.setattr(live, "NOTEBOOKS", tmp_path)
    assert live.networks_shown() == ["a", "b"]
    (tmp_path / "ort.js").write_text("1234")
    assert live.write_parts(tmp_path, []) == {str(tmp_path / "ort.js"): 4}
    assert (tmp_path / "sizes.js").read_text() == 'window.relcoreSizes = {"ort.js": 4};\n'


@settings(max_examples=10)
@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join), min_size=30))
def test_any_words_are_read_or_refused_as_in_python(texts):
    texts += [f" {text.title()}  " for text in texts]
    assert told([("parse", text, live.tables()) for text in texts]) == [read(t) for t in texts]


def test_every_prompt_of_the_suites_is_read_as_in_python():
    texts = [prompt for template in TEMPLATES for prompt in suite(PHRASES, template)[::5]]
    texts += ["red square", "red square above blue", "red square blue circle above", ""]
    texts += ["square is above circle triangle", "red square is above blue circle below"]
    assert told([("parse", text, live.tables()) for text in texts]) == [read(t) for t in texts]


def spoilt(picture, rng):
    """A picture with soft edges, specks, holes and lost corners, as networks draw them."""
    rough = picture.astype(float) + rng.normal(0, rng.uniform(0, 60), picture.shape)
    rough = cv2.GaussianBlur(rough, (0, 0), rng.uniform(0.3, 1.5))
    for _ in range(rng.integers(4)):
        x, y = rng.integers(0, 56, 2)
        rough[y : y + 5, x : x + 5] = rng.integers(0, 256, 3)
    return rough.clip(0, 255).astype(np.uint8)


def test_the_scorer_finds_and_judges_as_in_python():
    rng = np.random.default_rng(0)
    pictures = list(render(sample_scenes(60, rng)))
    pictures += [spoilt(picture, rng) for picture in pictures for _ in range(3)]
    prompts = [suite()[k] for k in rng.integers(0, 96, len(pictures))]
    found = told([("detect", p.flatten().tolist(), 64, live.tables()) for p in pictures])

    def key(o):
        return o["color"], o["shape"], o["x"], o["y"]

    for picture, answer in zip(pictures, found, strict=True):
        theirs = [{k: getattr(o, k) for k in ("color", "shape", "x", "y")} for o in detect(picture)]
        assert sorted(answer["value"], key=key) == sorted(theirs, key=key)
    read_here = [read(prompt)["value"] for prompt in prompts]
    calls = zip(found, read_here, strict=True)
    verdicts = told([("score", f["value"], p, live.tables()) for f, p in calls])
    for picture, prompt, verdict in zip(pictures, prompts, verdicts, strict=True):
        wanted = score(detect(picture), parse(prompt))
        assert {m: verdict["value"][m] for m in METRICS} == {m: wanted[m] for m in METRICS}


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("steps", [1, 2, 18])
def test_the_schedule_is_the_sampler(process, steps):
    """Any denoiser: the page's sums are the sampler's pictures, with guidance where it guides."""
    process = PROCESSES[process]()
    plan = live.schedule(process, steps=steps, guidance=4.0, guided_until=0.2)
    start, seen = torch.randn(1, 3, 8, 8, dtype=torch.float64), []

    def denoise(x, t):
        return torch.tanh(3 * x * (0.3 + t.double().view(-1, 1, 1, 1)))

    def callback(now):
        seen.append(now["x"])

    times = process.sampling_times(steps)
    wanted = SAMPLERS["dpm"](denoise, process, start, times, callback)
    parts = [start]
    for k, row in enumerate(plan["weights"]):
        x = sum(weight * part for weight, part in zip(row, parts, strict=True))
        torch.testing.assert_close(x, seen[k], rtol=1e-4, atol=1e-5)
        parts.append(denoise(x, torch.tensor([plan["t"][k]])))
    torch.testing.assert_close(parts[-1], wanted, rtol=1e-4, atol=1e-5)
