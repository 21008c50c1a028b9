"""Text encoders: prompts -> embeddings, mask and the role of every token.

All encoders offer `encode(prompts) -> Text`, `dim` (width of an embedding) and `contextual`:
whether a word's vector depends on the words around it. If not, `word(word)` is the vector of one.
Random token embeddings (RTE) are the paper's control for a pretrained encoder: one fixed random
vector a word, so that nothing about the relation can leak from one word into another.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import RelcoreError
from ..files import read_tensors, write_tensors
from ..paths import TABLES, require_checkout
from .prompts import ROLES, parse

END = "</s>"
# Length of RTE's positions over that of its words, if a recipe does not say otherwise.
POSITIONS = 0.5**0.5
BASE = 10_000.0  # of their wavelengths
MAX_LENGTH = 20  # tokens of a prompt of random embeddings, end token included (the paper's)


@dataclass
class Text:
    """Encoded prompts.

    embeddings: float [prompt, token, dim]; mask: bool [prompt, token], False on padding;
    roles: int [prompt, token], index into ROLES ("special" on the end token and padding).
    """

    embeddings: Tensor
    mask: Tensor
    roles: Tensor

    def __getitem__(self, rows) -> "Text":
        return Text(self.embeddings[rows], self.mask[rows], self.roles[rows])

    def to(self, device) -> "Text":
        """On a device. Roles stay: no network reads them, and the analyses do on the CPU."""
        return Text(self.embeddings.to(device), self.mask.to(device), self.roles)


class RandomTokenEncoder:
    """RTE: a fixed N(0, 1) vector per word, plus sinusoidal positions.

    Every word has a vector of its own, drawn from (seed, word) alone: a synonym never seen in
    training can be encoded, which the paper's closed table of 26 pieces could not.
    positions: their length over that of a word, 1 in the paper; 0 is the control whose text is a
    bag of words. base: of their wavelengths, 10000 in the paper; with a smaller one neighbouring
    positions differ more at the same length. The empty prompt, the unconditional input of guidance,
    is the end token alone.
    """

    contextual = False

    def __init__(
        self, dim: int = 384, seed: int = 0, positions: float = POSITIONS, base: float = BASE
    ):
        self.dim, self.seed = dim, seed
        self.name = "rte" if positions else "rte-nopos"
        self._encoded: dict[str, tuple[Tensor, Tensor]] = {}
        place = torch.arange(MAX_LENGTH)[:, None]
        rate = base ** (-torch.arange(0, dim, 2) / dim)
        wave = torch.stack([torch.sin(place * rate), torch.cos(place * rate)], -1).flatten(1)
        # [token, dim]; a wave of amplitude 1 is sqrt(dim / 2) long
        self.positions = wave * (2**0.5 * positions)

    def word(self, word: str) -> Tensor:
        """The vector [dim] of a word, without its position."""
        digest = hashlib.sha256(f"{self.seed}:{word}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
        return torch.randn(self.dim, generator=generator)

    def _encode_one(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Embeddings [token, dim] and roles [token] of one prompt, unpadded; kept for next time."""
        if prompt not in self._encoded:
            spans = parse(prompt).spans if prompt else ()
            words = [prompt[start:end].lower() for start, end, _ in spans] + [END]
            if len(words) > MAX_LENGTH:
                raise RelcoreError(
                    f"prompt {prompt!r} has {len(words)} tokens with the end token; "
                    f"the encoder takes {MAX_LENGTH}: shorten it"
                )
            roles = [ROLES.index(role) for _, _, role in spans] + [ROLES.index("special")]
            embedding = torch.stack([self.word(w) for w in words]) + self.positions[: len(words)]
            self._encoded[prompt] = embedding, torch.tensor(roles)
        return self._encoded[prompt]

    def encode(self, prompts: list[str]) -> Text:
        """Encode prompts, padded to the longest of them. "" is the unconditional prompt."""
        return pad([self._encode_one(prompt) for prompt in prompts])


def pad(rows: list[tuple[Tensor, Tensor]]) -> Text:
    """Stack (embeddings [token, dim], roles [token]) of different lengths into one Text."""
    embeddings = torch.nn.utils.rnn.pad_sequence([e for e, _ in rows], batch_first=True)
    roles = torch.nn.utils.rnn.pad_sequence(
        [r for _, r in rows], batch_first=True, padding_value=ROLES.index("special")
    )
    length = torch.tensor([len(r) for _, r in rows])
    mask = torch.arange(embeddings.shape[1]) < length[:, None]  # [prompt, token]
    return Text(embeddings, mask, roles)


class TableEncoder:
    """A contextual encoder's vectors, from a table written by `write_table`.

    The vectors are centred on the mean token of the training prompts and brought to RTE's root mean
    square, one number for all, so that every arm starts from text of the same size: e5's
    differences between tokens are a tenth of RTE's. The caption MLP could undo either, and no share
    of variance changes. A prompt that the table lacks is encoded by the encoder itself, if that is
    installed.
    """

    contextual = True

    def __init__(self, path: Path, positions: float = POSITIONS):
        tensors, self.header = read_tensors(path)
        if "prompts" not in self.header:
            raise RelcoreError(
                f"'{path}' is not a table of encoded prompts: make one with relcore encode"
            )
        try:
            raw, lengths = tensors["embeddings"].float(), tensors["lengths"].tolist()
            self._rows = dict(
                zip(
                    self.header["prompts"],
                    zip(raw.split(lengths), tensors["roles"].long().split(lengths), strict=True),
                    strict=True,
                )
            )
            training = torch.cat(
                [self._rows[p][0] for p in self.header["prompts"][: self.header["training"]]]
            )
            self.mean, size = centre(training)
            if not raw.isfinite().all():
                raise ValueError("some vectors are not numbers")
        except (KeyError, RuntimeError, ValueError) as error:
            raise RelcoreError(
                f"the table '{path}' is damaged ({error}): fetch it again or make it anew with "
                "relcore encode"
            ) from error
        self.name, self.dim, self._live = path.stem, raw.shape[1], None
        # The root mean square of RTE: words N(0, 1) and their positions.
        self.scale = (1 + positions**2) ** 0.5 / size

    def raw(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Embeddings [token, dim] as the encoder gives them, and roles [token], of one prompt."""
        if prompt not in self._rows:
            from .contextual import make_contextual

            try:
                self._live = self._live or self._check(
                    make_contextual(self.header["encoder"], self.header["source"].get("from"))
                )
            except RelcoreError as error:
                raise RelcoreError(
                    f"prompt {prompt!r} is not in the table '{self.name}': take one of its suites "
                    f"(relcore encode --help names them), or make its encoder work: {error}"
                ) from error
            self._rows[prompt] = self._live.encode_one(prompt)
        return self._rows[prompt]

    def _check(self, encoder):
        """The encoder, if it gives the table's vectors: other weights may lie where its weights
        lay.
        """
        prompt = self.header["prompts"][0]
        ours, theirs = self._rows[prompt][0], encoder.encode_one(prompt)[0]
        # Other machines round otherwise.
        if ours.shape != theirs.shape or (ours - theirs).norm() > 0.01 * ours.norm():
            raise RelcoreError(
                f"it gives other vectors than the table holds for {prompt!r}, so it is not the one "
                "that the table was made with"
            )
        return encoder

    def encode(self, prompts: list[str]) -> Text:
        """Encode prompts, padded to the longest of them. "" is the unconditional prompt."""
        rows = [self.raw(prompt) for prompt in prompts]
        return pad([((embedding - self.mean) * self.scale, roles) for embedding, roles in rows])


def centre(tokens: Tensor) -> tuple[Tensor, float]:
    """Mean [dim] of vectors [token, dim] and their root mean square about it.

    ValueError if that sets no scale.
    """
    mean = tokens.mean(0)
    size = float((tokens - mean).square().mean().sqrt())
    if not 0 < size < torch.inf:
        raise ValueError("the vectors of its training prompts are all alike or too large to square")
    return mean, size


def write_table(path: Path, encoder, training: list[str], others: list[str], progress=iter) -> dict:
    """Encode prompts into a table for `TableEncoder`; returns its header.

    encoder: a `ContextualEncoder`; training: the prompts whose mean and size set the scale. The
    empty prompt is always there. fp16, or fp32 if fp16 does not hold every vector. RelcoreError,
    before the work if a prompt cannot be read, and before the file is touched in any case.
    """
    prompts = list(dict.fromkeys([*training, *others, ""]))
    longest = max(prompts, key=lambda prompt: len(encoder.tokens(prompt)[0]))
    encoder.encode_one(longest)  # models differ in the length that they take
    rows = [encoder.encode_one(prompt) for prompt in progress(prompts)]
    try:
        centre(torch.cat([embedding for embedding, _ in rows[: len(set(training))]]))
    except ValueError as error:
        raise RelcoreError(f"the encoder '{encoder.name}' cannot make a table: {error}") from error
    embeddings = torch.cat([embedding for embedding, _ in rows])  # [token of any prompt, dim]
    half = embeddings.half()
    header = {
        "encoder": encoder.name,
        "source": encoder.source,
        "training": len(set(training)),
        "prompts": prompts,
    }
    write_tensors(
        path,
        {
            "embeddings": half if torch.equal(half.float(), embeddings) else embeddings,
            "roles": torch.cat([roles for _, roles in rows]).to(torch.int8),
            "lengths": torch.tensor([len(roles) for _, roles in rows]),
        },
        header,
    )
    return header


ENCODERS = ("rte", "rte-nopos")


def make_encoder(name: str, positions: float = POSITIONS, base: float = BASE):
    """The encoder of that name, as a checkpoint's header spells it: RTE, a shipped table, or a
    table's path.

    positions, base: of `RandomTokenEncoder`; a table's vectors are brought to the size of RTE's
        with such positions.
    """
    if name in ENCODERS:
        return RandomTokenEncoder(positions=positions if name == "rte" else 0, base=base)
    shipped = sorted(path.stem for path in TABLES.glob("*.safetensors"))
    if name not in shipped and not name.endswith(".safetensors"):
        require_checkout()
        raise RelcoreError(
            f"unknown encoder '{name}': choose from {', '.join([*ENCODERS, *shipped])}, "
            "or give the path of a table made by relcore encode"
        )
    return TableEncoder(
        TABLES / f"{name}.safetensors" if name in shipped else Path(name), positions
    )
