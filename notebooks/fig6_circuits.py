# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags,mystnb,-all
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext,-all
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Figure 6: two circuits for one task
#
# Both models draw the right relation in .97 of pictures. One gets the prompt as random token
# embeddings (RTE), a vector a word that knows nothing of the other words; the other
# gets it from a contextual encoder, e5-small, whose vectors are mixed before the network sees them.
# The paper {cite:p}`wang2026circuit` finds a circuit of two stages with the first kind of text, and
# a
# shorter way with the second. Here both are put together from measured parts, step by step, and
# then tested on the pictures.
#
# **The heads are not chosen by hand.** Every head is removed in turn (its output replaced by its
# mean). The *relation head* is the cross-attention head whose removal costs the most relation
# (loose); the *object
# heads* are the others that cost at least half of the largest fall of the shape. The criterion
# finds heads that matter; what they do, the later steps must show. ({doc}`fig4_relation_head` and
# {doc}`fig5_object_head` choose by weights and by attention
# as well, so that their object heads are three and not four.)
#
# Scale of everything: **micro** (6 layers of 3 heads), 64-pixel pictures, 18 steps, **one seed a
# model**. Effects and attention come from the tables in `results` (96 canonical prompts, two
# pictures each for the
# effects and three for the attention); maps, tags and pictures are computed here.

# %% tags=["parameters", "hide-input"]
quick = True  # draw only a small part again and check it against the stored tables; False makes the table of this chapter

# %% tags=["hide-input"]
from functools import lru_cache

import ipywidgets as w
import numpy as np
import pandas as pd
import torch
from IPython.display import Image
from myst_nb import glue

from relcore.data.prompts import PHRASES, ROLES, parse, suite
from relcore.data.scenes import COLORS, SHAPES
from relcore.data.scoring import wilson
from relcore.errors import RelcoreError
from relcore.kernels import interventions as iv
from relcore.kernels import tags
from relcore.kernels.factors import FACTORS, Rewired, factor_table, variance_partition, word_vectors
from relcore.kernels.synopsis import image_roles, role_attention
from relcore.model.checkpoints import digest
from relcore.model.diffusion import fast_precision
from relcore.model.evaluation import evaluate, write_table
from relcore.options import open_model
from relcore.paths import RESULTS
from relcore.view import controls, figures, story

figures.style()
ARMS = {"RTE": "rte-micro", "e5-small as contextual encoder": "e5-micro"}
PROMPTS = ["red square is above blue circle", "blue triangle is to the lower right of red square"]
STEP = 2  # of 18: the picture is still noise
SUITE = suite()


def balanced(count):
    """Prompts of every relation and either colour order, `count` each, that have each shape about as often."""
    return [
        SUITE[12 * r + 6 * c + (r + r // 2 + 2 * c + 6 // count * k) % 6]
        for r in range(8)
        for c in range(2)
        for k in range(count)
    ]


PART, BALANCED = balanced(2), balanced(3)  # 32 and 48 prompts
# Tags are taken from PART with another noise than that of the pictures shown.
TAG_SEED, SHOWN_SEED = 7, 5
OBJECT_SHARE = (
    0.5  # object heads: those that cost at least this share of the largest fall of the shape
)


def number_of(rows, name, metric):
    row = rows[(rows.intervention == name) & (rows.metric == metric)].iloc[0]
    return row.change, row.change_low, row.change_high


class Arm:
    """A model with its heads, chosen by the stored ablations, and what the figures take from tables and drawn pictures."""

    def __init__(self, label):
        self.label, self.name = label, ARMS[label]
        self.model, _, self.encoder, process = open_model(self.name)
        self.sampling = {
            "process": process,
            "steps": 18,
            "guidance": 4.0,
            "guided_until": 0.2,
            "precision": fast_precision(),
        }
        stored = {
            kind: pd.read_parquet(RESULTS / "interventions" / f"{self.name}-{kind}.parquet")
            for kind in ("heads-mean", "masks")
        }
        self.heads, self.masks = (iv.outcomes(table) for table in stored.values())
        cross = self.heads[~self.heads.intervention.str.startswith(("self", "none"))]
        falls = cross.pivot(index="intervention", columns="metric", values="change")
        self.relation = falls.relation_loose.idxmin()
        shape = falls["shape"].drop(self.relation).sort_values(kind="stable")
        self.objects = list(shape.index[shape <= OBJECT_SHARE * shape.iloc[0]])
        self.mass = pd.read_parquet(RESULTS / "synopsis" / f"{self.name}.parquet").query(
            "reduction == 'mean'"
        )
        chosen = [self.head(n) for n in [self.relation, *self.objects]]
        self.parallel = {self.head(n).layer for n in self.objects} == {
            self.head(self.relation).layer
        }
        self.writers = [self.relation, *(self.objects if self.parallel else [])]
        self.mlp = f"blocks.{self.head(self.relation).layer}.mlp_out"
        tokens = tags.collect(
            self.model,
            self.encoder,
            PART,
            [TAG_SEED],
            [self.mlp],
            [self.head(n) for n in self.writers],
            **self.sampling,
        )
        self.tags, self.auc = {}, {}
        for name in [*self.writers, self.mlp]:
            self.tags[name] = {
                color: tags.tag(tokens.where(color1=color), name, [STEP])[0] for color in COLORS
            }
            self.auc[name] = tags.prediction(tokens, name, [STEP], within="color1", draws=100).iloc[
                0
            ]
        self.reference = iv.reference(
            self.model, self.encoder, PART[::2], iv.REFERENCE_SEEDS, chosen, **self.sampling
        )
        prompts = suite(PHRASES)
        text = self.encoder.encode(prompts)
        factors = factor_table(prompts, text)
        shares = {}
        for role, names in FACTORS.items():
            found = variance_partition(
                word_vectors(text, role), factors[names], permutations=0
            ).set_index("factor")
            shares[role] = found.partial["relation"]
        self.shares = shares
        self.picked = self.picks([self.relation, *self.objects])

    def head(self, name):
        return iv.find_head(self.model, name)

    def picks(self, names):
        """{head: a sentence on the colour word that has nearly all its attention, wherever it stands; or nothing}."""
        prompts = BALANCED
        batch = iv.Batch(
            self.model,
            self.encoder,
            prompts,
            [TAG_SEED] * len(prompts),
            {**self.sampling, "steps": 1},
        )
        _, cache = batch.draw({f"{self.head(name).name}.pattern" for name in names})
        roles, said = self.encoder.encode(prompts).roles, dict.fromkeys(names, "")
        for name in names:
            head = self.head(name)
            pattern = (
                cache[f"{head.name}.pattern", 0][: len(prompts), head.head].float().mean(1).cpu()
            )  # [prompt, token]
            for color, word in enumerate(COLORS):
                mine = torch.tensor(
                    [
                        ROLES.index("color1" if parse(p).colors[0] == color else "color2")
                        for p in prompts
                    ]
                )
                mass = (pattern[:, : roles.shape[1]] * (roles == mine[:, None])).sum(1)
                if (mass > 0.9).all():
                    said[name] = (
                        f'{name} reads "{word}", first or second, in {len(prompts)} of {len(prompts)} prompts.'
                    )
        return said

    def masses(self, heads):
        """Mass from either object to each text role, mean over heads, over the stored pictures."""
        rows = self.mass[
            ("L" + self.mass.layer.astype(str) + "H" + self.mass["head"].astype(str)).isin(heads)
        ]
        table = rows.groupby(["text_role", "image_role"]).mass.mean().unstack()
        return {role: (table.object1[role], table.object2[role]) for role in table.index}


arms = {label: Arm(label) for label in ARMS}


# %% tags=["hide-input"]
# The words whose maps are drawn for the relation head and for the object heads
COLUMNS = {
    "rte-micro": [["relation", "color1 color2"], ["shape1", "shape2"]],
    "e5-micro": [["color1", "color2"]] * 2,
}
NAMES = {**figures.ROLE_NAMES, "color1 color2": "colours"}
OTHERS = "special"  # the box of the tokens without a meaning of their own: fillers, start and end


def opposed(arm):
    """(encoder, intervention) that put the opposite relation in: RTE in the relation head, else in both colour words."""
    if arm.name == "rte-micro":
        return arm.encoder, iv.patch([arm.head(arm.relation)])
    return Rewired(arm.encoder, ["color1", "color2"], iv.opposite_relation), None


def share_of(hits):
    """A share with its interval, as text."""
    return story.interval(hits.mean(), *wilson(hits.sum(), len(hits)))


def opposite_table(arm, prompts, seeds):
    encoder, intervention = opposed(arm)
    draw = iv.drawn_with(intervention) if intervention else None
    return iv.obeys(evaluate(arm.model, encoder, prompts, seeds, draw=draw, **arm.sampling))


opposites = {}
for label, arm in arms.items():
    file = RESULTS / "interventions" / f"{arm.name}-opposite.parquet"
    if not quick:
        made = opposite_table(arm, SUITE, [0, 1])
        write_table(
            file,
            made,
            command="relcore notebooks --full --only fig6",
            checkpoint=digest(arm.name),
            seed=0,
        )
    opposites[label] = pd.read_parquet(file)


@lru_cache(8)
def circuit(label, prompt, seed=SHOWN_SEED):
    """Everything that is drawn of one prompt: one run for maps and tags, and one for each picture of the proof."""
    arm, parsed = arms[label], parse(prompt)
    if min(*parsed.colors, *parsed.shapes, parsed.relation) < 0:
        raise RelcoreError(
            "name a relation and two objects with colour and shape, as in 'red square is above "
            "blue circle'"
        )
    batch = iv.Batch(arm.model, arm.encoder, [prompt], [seed], arm.sampling)
    layers = {arm.head(name).layer for name in [arm.relation, *arm.objects]}
    names = [f"blocks.{layer}.cross_attn.pattern" for layer in layers]
    pictures, cache = batch.draw(
        [*names, *{f"{arm.head(name).name}.result" for name in arm.writers}, arm.mlp]
    )
    shares = image_roles(pictures[0].numpy(), parsed)
    if shares is None:
        raise RelcoreError(
            "the picture does not show the prompt's two objects, so its places have no role: try "
            "another seed"
        )
    roles = arm.encoder.encode([prompt]).roles[0]

    def reader(title, heads, columns, metric):
        maps = {}
        for name in heads:
            head = arm.head(name)
            steps = (
                [STEP] if heads == [arm.relation] else range(18)
            )  # object heads: the mean over all steps
            pattern = torch.stack(
                [cache[f"{head.name}.pattern", s][0, head.head].float().cpu() for s in steps]
            ).mean(0)
            kept = [
                torch.isin(roles, torch.tensor([ROLES.index(r) for r in c.split()]))
                for c in columns
            ]
            maps[name] = [pattern[:, : len(roles)][:, k].sum(1).reshape(8, 8).numpy() for k in kept]
        masses = arm.masses(heads)
        masses[OTHERS] = tuple(np.add(masses[OTHERS], masses.pop("filler")))
        changes = {
            name: number_of(arm.heads, name, {"relation": "relation_loose"}.get(metric, metric))
            for name in heads
        }
        return story.Reader(title, [NAMES[c] for c in columns], maps, masses, metric, changes)

    def along(name):
        """Projection on the tag less its mean over the places, the scale of its map, and how well it tells."""
        if name == arm.mlp:
            value = cache[name, STEP][0]
        else:
            value = cache[f"{arm.head(name).name}.result", STEP][0, arm.head(name).head]
        value = (
            (value.float().cpu() @ arm.tags[name][COLORS[parsed.colors[0]]]).reshape(8, 8).numpy()
        )
        value = value - value.mean()
        spread = np.abs(value).max()
        note = (
            "the same everywhere"
            if spread < 0.01
            else "AUC " + story.interval(*arm.auc[name][["auc", "low", "high"]])
        )
        return value, max(float(spread), 1.0), note

    texts = {
        role: " ".join(prompt[a:b] for a, b, r in parsed.spans if r == role) for role in FACTORS
    }
    words = {
        role: (texts[role], arm.shares[role])
        for role in ("color1", "shape1", "relation", "color2", "shape2")
    }
    words[OTHERS] = ("other tokens", None)
    masked = {
        "relation": "hidden",
        "shape1": "hidden",
        "shape2": "hidden",
        "color1 color2": "both hidden",
    }
    hidden = {
        r: (what, number_of(arm.masks, key, "relation_loose"))
        for key, what in masked.items()
        for r in key.split()
    }
    first, second = COLUMNS[arm.name]
    heads = "object head" + "s" * (len(arm.objects) > 1)
    layer, n = arm.head(arm.relation).layer, arm.mass.n.iloc[0]
    return story.Circuit(
        title=f'{arm.name}, {label}: "{prompt}"',
        words=words,
        hidden=hidden,
        relation=reader("relation head", [arm.relation], first, "relation"),
        objects=reader(heads, arm.objects, second, "shape"),
        behind=[name for name in arm.objects if arm.head(name).layer > layer],
        written={name: along(name) for name in arm.writers},
        mixed=(f"the MLP of layer {layer} adds", *along(arm.mlp)),
        outlines=shares[:2].reshape(2, 8, 8),
        picture=pictures[0].numpy(),
        note={
            1: "Number in each box: the share of the word's vector that is the relation (partial R\u00b2, 264 prompts), as the text encoder hands it over.",
            2: f"Arrows: attention from object 1's places (solid) and object 2's (dashed), mean of {n} pictures.\n"
            f"Maps: this picture's attention at step {STEP + 1} of 18, 0 dark to 1 yellow; "
            "outlines: where the objects will be. " + arm.picked[arm.relation],
            3: f"Written at step {STEP + 1}, along the direction that tells object 1's places (red) from object 2's (blue), less its mean over the places.\n"
            "AUC: how well it tells the two apart on prompts that the direction was not taken "
            f"from (.50: not at all); 95 % intervals, {len(PART)} prompts.",
            4: f"Arrows: attention from object 1's places (solid) and object 2's (dashed), mean of {n} pictures{' and of the heads' * (len(arm.objects) > 1)}.\n"
            "Maps: this picture's attention, mean over the steps. "
            + " ".join(filter(None, (arm.picked[name] for name in arm.objects))),
            5: "The effects: change in the share of pictures with the right relation (loose) or shapes when a head or a word is taken away, 95 % intervals, n = 192 pictures.",
            6: "The same noise under interventions. Shares of pictures with the right relation (loose) and shapes: 95 % intervals, n = 192 pictures.",
        },
        proofs=proofs(label, batch, pictures),
    )


def proofs(label, batch, pictures):
    """{title: picture} of the prompt's interventions; the shares in the titles are of the stored tables."""
    arm = arms[label]
    encoder, swap = opposed(arm)

    def drawn(intervention=None, encoder=arm.encoder):
        return iv.drawn_with(intervention or (lambda _: {}))(
            arm.model, encoder, batch.prompts, batch.seeds, **arm.sampling
        )[0].numpy()

    def share(rows, name):
        rows = rows[rows.intervention == name].set_index("metric")
        parts = {"relation": "relation_loose", "shapes": "shape"}
        return ", ".join(
            f"{k} {story.interval(*rows.loc[m, ['value', 'low', 'high']])}"
            for k, m in parts.items()
        )

    made = {f"as it is\n{share(arm.heads, 'none')}": pictures[0].numpy()}
    for name, kind in ((arm.relation, "relation head"), (arm.objects[0], "object head")):
        made[f"without {kind} {name}\n{share(arm.heads, name)}"] = drawn(
            iv.ablate([arm.head(name)], arm.reference)
        )
    for key, what in (("relation", "relation words"), ("color1 color2", "colour words")):
        made[f"{what} hidden\n{share(arm.masks, key)}"] = drawn(iv.mask_tokens(key.split()))
    where = f"into {arm.relation}" if swap else "into both colour words"
    table = opposites[label]
    made[
        f"opposite relation {where}\nrelation {share_of(table.relation_loose)}, opposite "
        f"{share_of(table.donor_loose)}"
    ] = drawn(swap, encoder)
    return made


def frame(stage, prompt, encoder, seed=SHOWN_SEED):
    return figures.to_png(story.scene(circuit(encoder, prompt, seed), stage), 128, dpi=100)


for label in ARMS:
    for prompt in PROMPTS:
        circuit(label, prompt)

# %% tags=["hide-input"]
stages = range(1, len(story.STAGES) + 1)
controls.frames(
    frame,
    stages,
    "step",
    [f"{k}: {name}" for k, name in enumerate(story.STAGES, 1)],
    2500,
    encoder=list(ARMS),
    prompt=PROMPTS,
    alt="The circuit of the chosen prompt and encoder, built up in six steps: the words, the heads that read the relation, the tag that they write, the object heads, the picture, and six pictures that prove it by interventions.",
)

# %% tags=["hide-input", "remove-cell"]
for label in ARMS:  # for the first page of the book
    for stage in stages:
        glue(f"circuit {stage} {label}", Image(frame(stage, PROMPTS[0], label)), display=False)

# %% [markdown]
# *The circuit of one prompt, step by step. Maps show the 8 x 8 image tokens; outlines, the objects
# of the finished picture, the first solid and the second dashed. Colours of boxes and arrows are
# those of the
# text roles: a box is red because it is colour 1, whatever colour it names. Micro scale; RTE, and
# e5-small as contextual encoder; one seed each.*
#
# ## Both circuits

# %% mystnb={"figure": {"caption": "The two circuits with their effects. Boxes: words, with the relation's share of their vectors; above them, what hiding them costs. Arrows from words: attention from object 1's places (solid) and object 2's (dashed), mean of 280 pictures. Small dark maps: this picture's attention (relation head at step 3 of 18, object heads mean over the steps). Red and blue maps: what is written along the direction that tells object 1's places from object 2's. AUC: how well it tells the two apart on prompts that the direction was not taken from. Gray arrows with numbers: change when a head is removed, 95 % intervals, n = 192 pictures. With RTE the head L3H2 marks places and heads behind it draw shapes there; with e5-small two heads write one vector everywhere, and the places appear in the MLP. Micro scale; RTE, and e5-small as contextual encoder; one seed each.", "name": "fig-circuits"}}
figures.show(
    story.overview([circuit(label, PROMPTS[1]) for label in ARMS]),
    "Two diagrams from words to picture: with RTE one head reads the relation words and marks "
    "places in which heads behind it draw shapes, and with e5-small two heads read the colour "
    "words alike from everywhere and the MLP makes the places.",
    colors=128,
    dpi=100,
)

# %% tags=["nbval-check-output", "hide-output"]
for label, arm in arms.items():
    print(f"{label}: relation head {arm.relation}, object heads {', '.join(arm.objects)}")
    for name, row in arm.auc.items():
        what = "the MLP of the relation head's layer" if name == arm.mlp else name
        print(f"  what {what} writes tells object 1's places from object 2's: AUC {row.auc:.1f}")
    table = pd.read_parquet(RESULTS / "interventions" / f"{arm.name}-heads-mean.parquet")
    for name in ["none", arm.relation, *arm.objects]:
        rows = table[table.intervention == name]
        bound = rows[rows.binding]
        kind = "nothing removed" if name == "none" else f"without {name}"
        print(
            f"  {kind}: relation {share_of(rows.relation_loose)}, shapes "
            f"{share_of(rows['shape'])}; where both objects are there, n = {len(bound)}: relation "
            f"{share_of(bound.relation_loose)}"
        )

# %% [markdown]
# ## What differs
#
# **RTE: places first, then shapes.** Only the relation words say the relation (the boxes say .08
# and .06 at the second object's words too; that is only their place in the text, which moves with
# the phrase's length: {doc}`fig7_text_fusion`). L3H2 reads them on the side where *object 2*
# belongs (.97 of its attention there, .08 at object 1's places) and the colour words elsewhere,
# when the
# picture is still noise. What it writes splits the picture in two: a tag. Without the head, the
# relation is right in .31 of those pictures that have both objects, and with its result from the
# opposite
# prompt the picture shows the opposite relation in .96. Behind it, the object heads read shape
# words, at first where the tag sends them and later where the colour in the picture does
# ({doc}`fig5_object_head`): without one of them shapes are lost, but where both objects are
# there, the relation stays as it was (.98 to 1.00). One of the four, L3H1, stands in the relation
# head's own layer, sees no tag, and looks at its words from every place alike.
#
# **e5-micro: words that know, and one vector for all places.** The network reads the two colour
# words and nothing else of weight: hiding the relation words changes no verdict, hiding both shape
# words .02 of them. L3H1 always reads
# "red" and L3H2 always "blue", first or second, with all their attention and from every place
# alike. So neither marks a place: what they write is the same everywhere. (By its weights L3H2
# could mark one, its cosine is .90 ({doc}`fig3b_weight_screening`); but its attention is full
# everywhere, and the map does not show.) The places appear right behind them, in the *MLP* of that
# layer, which sees
# the position, too. The red word's vector must say what and where the red object is, as its encoder
# mixed it; the relation put into both colour words by arithmetic is obeyed in .96. Calling L3H1 a
# relation head and L3H2 an object head is the criterion's doing: they are a
# pair, one a colour. Without L3H1 the shapes go as well (.41), and the relation is right in .71 of
# the pictures that have both objects.
#
# **Which head for which object?** With RTE the object heads share the work in a way of their own,
# by colour and shape:

# %% tags=["hide-input"]
arm, rows = arms["RTE"], []
texts = BALANCED
drawn, passes, _ = role_attention(
    arm.model, arm.encoder, texts, list(range(len(texts))), mean=True, **arm.sampling
)
for k, prompt in enumerate(texts):
    shares, parsed = image_roles(drawn[k].numpy(), parse(prompt)), parse(prompt)
    if shares is None:
        continue
    for name in arm.objects:
        head = arm.head(name)
        mass = (
            torch.from_numpy(shares / shares.sum(1, keepdims=True))
            @ passes[0][head.layer, k, head.head]
        )
        for side in (0, 1):
            word = ROLES.index(f"shape{side + 1}")
            place = f"{COLORS[parsed.colors[side]]} {SHAPES[parsed.shapes[side]]}"
            rows.append(
                {
                    "head": name,
                    "word": NAMES[f"shape{side + 1}"],
                    "place of the": place,
                    "mass": float(mass[side, word]),
                }
            )
own = (
    pd.DataFrame(rows)
    .pivot_table(index=["head", "word"], columns="place of the", values="mass", sort=True)
    .loc[arm.objects]
)
own.rename_axis(index=(None, None)).style.format(precision=2)

# %% [markdown]
# *Attention from an object's places to its own shape word, by the object that is drawn there: mean
# over 48 prompts, one picture each. RTE, micro, one seed.*
#
# L4H0 reads "square" where the red one belongs and L4H2 reads "triangle" where the blue one
# belongs, both whether it is named first or second. L4H1 reads the first shape word alone, for blue
# objects and for the red triangle.
# No head does it for all objects, so removing one spoils only some of the shapes.
#
# **Where this agrees with the paper**: with RTE, a circuit of two stages, one head that turns the
# relation words into places and others that read shape words there; with a contextual encoder,
# fused words that make the
# relation words needless. **Where not**: the words that carry the relation here are the two colour
# words, not the second shape word (which of the objects' words holds most of it, .14, and is hardly
# read); our relation head marks object 2's side and not
# object 1's; and e5-micro has no head that marks places. That is one seed: e5-micro-s4 reads its
# shape words and has such a head, L0H1, and with it the paper's two stages
# ({doc}`fig7_text_fusion`). The paper's encoder is another and larger one.
#
# ## Any prompt, now
#
# With a running kernel: any prompt that names two objects and a relation. The contextual encoder
# knows the prompts of the book's suites; others need its packages.

# %% tags=["hide-input"]
controls.live(
    frame,
    prompt=w.Text(
        "red triangle is to the left of blue square", description="prompt", continuous_update=False
    ),
    encoder=w.Dropdown(options=list(ARMS), description="encoder"),
    stage=w.IntSlider(4, 1, len(story.STAGES), description="step", continuous_update=False),
    seed=w.BoundedIntText(1, 0, 9999, description="noise seed"),
    alt="The circuit of the typed prompt, drawn up to the chosen step.",
)

# %% [markdown]
# ### Checked again, just now
#
# The opposite relation is put in once more, in 16 prompts with noise of their own; the stored
# shares must lie in the fresh intervals.

# %% tags=["hide-input"]
for label, arm in arms.items():
    fresh, stored = opposite_table(arm, PART[::2], [50]), opposites[label]
    for column, what in (
        ("relation_loose", "the prompt's relation"),
        ("donor_loose", "the opposite one"),
    ):
        low, high = wilson(fresh[column].sum(), len(fresh))
        print(
            f"{label}, {what}: {share_of(fresh[column])}, n = {len(fresh)}; stored "
            f"{share_of(stored[column])}, n = {len(stored)}"
        )
        assert low - 0.02 <= stored[column].mean() <= high + 0.02
