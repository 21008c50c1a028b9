"""Any tokenizer encodes every closed suite, or is refused before the first prompt is encoded.

WordPiece, Unigram and byte-level BPE with and without special tokens, each before a small network.
"""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relcore.data.contextual import PROBE, make_contextual
from relcore.data.encoders import TableEncoder, write_table
from relcore.data.prompts import CANONICAL, PHRASES, REWRITES, ROLES, TEMPLATES, parse, suite
from relcore.errors import RelcoreError

pytest.importorskip("transformers", reason="needs the package transformers: make install")
tokenizers = pytest.importorskip("tokenizers", reason="needs the package tokenizers: make install")

SUITES = [prompt for template in (*TEMPLATES, *REWRITES) for prompt in suite(CANONICAL, template)]
FAMILIES = ("wordpiece", "unigram", "bytes", "bytes-trimmed")
SMALL = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def tokenizer_of(family: str, special: bool, size: int, named: tuple[str, ...]):
    """A tokenizer trained on the prompts.

    special: it adds an end token; size: of its vocabulary; named: which of its tokens it names.
    """
    from tokenizers import (
        Tokenizer,
        decoders,
        models,
        normalizers,
        pre_tokenizers,
        processors,
        trainers,
    )
    from transformers import PreTrainedTokenizerFast

    if family == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.normalizer, tokenizer.pre_tokenizer = (
            normalizers.BertNormalizer(),
            pre_tokenizers.BertPreTokenizer(),
        )
        train = trainers.WordPieceTrainer
    elif family == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = (
            pre_tokenizers.Metaspace(),
            decoders.Metaspace(),
        )
        train = trainers.UnigramTrainer
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(
            add_prefix_space=family == "bytes-trimmed"
        )
        train = trainers.BpeTrainer
    names = ["<pad>", "</s>", "<unk>"]
    options = {"unk_token": "<unk>"} if family == "unigram" else {}
    corpus = [*suite(PHRASES), *SUITES]
    trainer = train(vocab_size=size, special_tokens=names, show_progress=False, **options)
    tokenizer.train_from_iterator(corpus, trainer)
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    elif family == "bytes-trimmed":
        tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    known = {"pad_token": "<pad>", "eos_token": "</s>"}
    unknown = {} if family.startswith("bytes") else {"unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **unknown, **{name: known[name] for name in named}
    )


def model_of(family: str, vocabulary: int, positions: int):
    import transformers

    torch.manual_seed(0)
    if family == "unigram":
        config = transformers.T5Config(
            vocab_size=vocabulary, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2
        )
        return transformers.T5EncoderModel(config)
    if family == "bytes":
        return transformers.GPT2Model(
            transformers.GPT2Config(
                vocab_size=vocabulary, n_embd=8, n_layer=1, n_head=2, n_positions=positions
            )
        )
    kind = {"wordpiece": "Bert", "bytes-trimmed": "Roberta"}[family]
    config = getattr(transformers, f"{kind}Config")(
        vocab_size=vocabulary, max_position_embeddings=positions, pad_token_id=0, **SMALL
    )
    return getattr(transformers, f"{kind}Model")(config)


def encoder_of(
    folder,
    family="bytes",
    special=False,
    size=400,
    named=("pad_token",),
    vocabulary=0,
    positions=80,
):
    """The encoder read from a folder, and the lengths of what its network has read since.

    vocabulary: how many tokens its network knows beyond the tokenizer's.
    """
    tokenizer = tokenizer_of(family, special, size, named)
    tokenizer.save_pretrained(folder)
    model_of(family, len(tokenizer) + vocabulary, positions).save_pretrained(folder)
    encoder = make_contextual("t5" if family == "unigram" else "hf", str(folder))
    read = []
    encoder.model.register_forward_hook(
        lambda model, inputs, kwargs, out: read.append(kwargs["input_ids"].shape[1]),
        with_kwargs=True,
    )
    return encoder, read


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    family=st.sampled_from(FAMILIES),
    special=st.booleans(),
    size=st.sampled_from([60, 100, 400]),
    named=st.sets(st.sampled_from(["pad_token", "eos_token"])),
    vocabulary=st.sampled_from([0, 0, 0, 8, -1]),
    positions=st.sampled_from([80, 80, 80, 20]),
)
def test_a_tokenizer_encodes_every_suite_or_is_refused_beforehand(tmp_path_factory, **case):
    folder = tmp_path_factory.mktemp("encoder")
    named = tuple(sorted(case.pop("named")))
    training, others = suite(PHRASES)[::9], SUITES[::9]
    read = []
    try:
        encoder, read = encoder_of(folder, named=named, **case)
        write_table(folder / "table.safetensors", encoder, training, others)
    except RelcoreError as error:
        assert not read and not (folder / "table.safetensors").exists(), error
        return
    table = TableEncoder(folder / "table.safetensors")
    for prompt in {*training, *others, ""}:
        text = table.encode([prompt])
        assert text.embeddings.isfinite().all() and text.mask.any()
        named = {ROLES[role] for role in text.roles[0]} - {"special"}
        assert named == ({role for *_, role in parse(prompt).spans} if prompt else set())


@pytest.mark.parametrize("special", [True, False], ids=["an end token", "no special token"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_encodes_every_suite(tmp_path, family, special):
    """Also where doubled spaces are tokens of their own, and where every letter is one."""
    longest = {}
    for size in (400, 60):
        (tmp_path / str(size)).mkdir()
        encoder, _ = encoder_of(tmp_path / str(size), family, special, size)
        header = write_table(
            tmp_path / "table.safetensors", encoder, suite(PHRASES)[::20], SUITES[::20]
        )
        assert set(header["prompts"]) == {*suite(PHRASES)[::20], *SUITES[::20], ""}
        longest[size] = max(len(encoder.encode_one(prompt)[1]) for prompt in SUITES[::20])
    assert max(longest.values()) > 20


@pytest.mark.parametrize(
    "named, piece", [(("eos_token", "pad_token"), "</s>"), (("pad_token",), "<pad>")]
)
@pytest.mark.parametrize("family", FAMILIES)
def test_without_special_tokens_the_empty_prompt_is_one_token(tmp_path, family, named, piece):
    """The end token as for random token embeddings, or the padding one where there is no end."""
    encoder, _ = encoder_of(tmp_path, family, named=named)
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    names = [piece for piece, _ in vocabulary] if family == "unigram" else vocabulary
    token = names.index(piece) if family == "unigram" else names[piece]
    with torch.no_grad():
        alone = encoder.model(input_ids=torch.tensor([[token]])).last_hidden_state[0]
    embedding, roles = encoder.encode_one("")
    torch.testing.assert_close(embedding, alone, rtol=2**-11, atol=1e-6)
    assert [ROLES[role] for role in roles] == ["special"]


def refusal(make) -> str:
    with pytest.raises(RelcoreError) as error:
        make()
    return str(error.value)


def test_whole_words_and_no_special_token(tmp_path):
    """As many tokens as words: no reason to doubt the tokenizer."""
    encoder, _ = encoder_of(tmp_path, "wordpiece")
    assert len(encoder.encode_one(PROBE)[1]) == len(PROBE.split())


def test_no_token_for_the_empty_prompt(tmp_path):
    encoder, read = encoder_of(tmp_path, named=())
    message = refusal(lambda: write_table(tmp_path / "a.safetensors", encoder, [PROBE], []))
    assert "''" in message and "end or padding token" in message and not read


def test_more_tokens_than_the_network_has_places(tmp_path):
    """The longest prompt is tried first, and the message shows it as it is."""
    encoder, read = encoder_of(tmp_path, positions=16)
    message = refusal(
        lambda: write_table(tmp_path / "a.safetensors", encoder, suite(PHRASES)[::9], SUITES)
    )
    assert not read and "  " in message and "--suites training" in message
    spaced = message.split("'")[3]
    assert spaced in SUITES and f"{len(encoder.tokens(spaced)[0])} tokens" in message
    assert len(encoder.tokens(spaced)[0]) == max(
        len(encoder.tokens(prompt)[0]) for prompt in SUITES
    )


def test_a_tokenizer_with_more_tokens_than_the_network(tmp_path):
    encoder, read = encoder_of(tmp_path, "wordpiece", True, vocabulary=-1)
    unknown = next(
        p for p in SUITES if max(encoder.tokenize(p)[0]) >= encoder.model.config.vocab_size
    )
    message = refusal(lambda: write_table(tmp_path / "a.safetensors", encoder, [PROBE], SUITES))
    assert (
        not read and repr(unknown) in message and f"{encoder.model.config.vocab_size} " in message
    )


def test_a_word_of_which_nothing_is_left(tmp_path):
    """BPE without an unknown token leaves out the letters that it has never seen."""
    encoder, read = encoder_of(tmp_path)
    kept = encoder.tokenize
    encoder.tokenize = lambda prompt: (
        tuple(zip(*(t for t in zip(*kept(prompt), strict=True) if t[1] != (0, 3)), strict=True))
        or ((), ())
    )
    first = next(prompt for prompt in SUITES if kept(prompt)[1][0] == (0, 3))
    message = refusal(lambda: write_table(tmp_path / "a.safetensors", encoder, [first], []))
    assert not read and repr(first) in message and f"'{first[:3]}'" in message


@pytest.mark.parametrize("factor", [1e6, 1e-9], ids=["beyond half precision", "below it"])
def test_vectors_of_any_size_make_a_table(tmp_path, factor):
    encoder, _ = encoder_of(tmp_path, "wordpiece", True)
    write_table(tmp_path / "a.safetensors", encoder, suite(PHRASES)[::9], SUITES[::9])
    norm = encoder.model.encoder.layer[0].output.LayerNorm
    norm.weight *= factor
    norm.bias *= factor
    write_table(tmp_path / "b.safetensors", encoder, suite(PHRASES)[::9], SUITES[::9])
    plain, scaled = (TableEncoder(tmp_path / f"{name}.safetensors") for name in "ab")
    for prompt in [*SUITES[::9], ""]:
        assert torch.equal(scaled.raw(prompt)[0], encoder.encode_one(prompt)[0])
        # As half precision has 11 bits.
        torch.testing.assert_close(
            scaled.raw(prompt)[0] / factor, plain.raw(prompt)[0], rtol=2**-10, atol=1e-6
        )
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in "ab"]
    assert sizes[1] > 1.2 * sizes[0]  # fp16 where it does


@pytest.mark.parametrize(
    "factor, reason", [(torch.nan, "not finite"), (0.0, "alike"), (1e30, "alike")]
)
def test_no_table_is_written_of_vectors_that_say_nothing(tmp_path, factor, reason):
    encoder, _ = encoder_of(tmp_path, "wordpiece", True)
    (tmp_path / "a.safetensors").write_text("another table")
    encoder.model.encoder.layer[0].output.LayerNorm.weight *= factor
    message = refusal(
        lambda: write_table(tmp_path / "a.safetensors", encoder, [PROBE], SUITES[::99])
    )
    assert reason in message and f"'{encoder.name}'" in message
    assert (tmp_path / "a.safetensors").read_text() == "another table"


def test_weights_that_are_not_numbers_are_refused_when_opened(tmp_path):
    encoder_of(tmp_path, "wordpiece", True)
    model = model_of("wordpiece", len(tokenizer_of("wordpiece", True, 400, ("pad_token",))), 80)
    torch.nn.init.constant_(model.encoder.layer[0].output.LayerNorm.weight, torch.nan)
    model.save_pretrained(tmp_path)
    assert "not finite" in refusal(lambda: make_contextual("hf", str(tmp_path)))


def test_the_command_prints_a_prompt_as_it_is(tmp_path, relcore):
    """Doubled spaces too: they may be what is wrong with it."""
    encoder_of(tmp_path, positions=16)
    run = relcore(
        "encode", "--encoder", "hf", "--from", tmp_path, "--out", tmp_path / "a.safetensors"
    )
    (message,) = [line for line in run.stderr.splitlines() if line.startswith("relcore: ")]
    assert run.returncode == 2 and any(
        repr(prompt) in message for prompt in suite(CANONICAL, "spaces")
    )
    assert not (tmp_path / "a.safetensors").exists()
    run = relcore("sample", "red  square  is  above  blue\n  hexagon")
    assert (
        "'red  square  is  above  blue\\n  hexagon'" in run.stderr and run.stderr.count("\n") == 1
    )
