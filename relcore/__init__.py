"""relcore: how a small diffusion transformer learns to draw spatial relations.

import relcore as rc
model = rc.load("rte-micro")                      # network, text encoder and noise process
picture = model.draw("red square is above blue circle", seeds=0)
whole, without = model.evaluate(), model.evaluate(intervention=model.ablate("L3H2"))
rc.change(whole, without)                         # each accuracy and its change, with intervals
"""

from importlib import import_module

_FACE = {
    "Model": "face",
    "load": "face",
    "change": "face",
    "runs": "registry",
    "results": "experiment",
    "suite": "data.prompts",
    "capture": "kernels.capture",
}
__all__ = sorted(_FACE)


def __getattr__(name: str):
    """The names above, each imported when it is first used: `import relcore` itself takes no
    time.
    """
    if name not in _FACE:
        raise AttributeError(f"module 'relcore' has no attribute '{name}'")
    value = getattr(import_module(f"{__name__}.{_FACE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_FACE})
