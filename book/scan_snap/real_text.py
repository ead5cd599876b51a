# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Real text
#
# **What the paper claims.** What the theory says of a one-layer decoder without positions is seen in an ordinary Transformer
# on English text: attention becomes sparse while SGD trains it (Figure 7), the sparser the larger the learning rate
# (Figure 10) {cite:p}`tian2023scan`.
#
# **What you will see.** The published attention maps, read off the printed image, beside ours, and what the maps leave open: is it
# the rate, or the time, or a short text? Does the pattern freeze? Which words win, and is it words at all, not places?
#
# **What is left of the theory.** The scan: at every rate attention leaves the common words for those that say something about the
# next one, the frequent among them first. The snap: at small rates attention comes to rest, still dense; at rate 5, that of
# Figure 7, it goes on to one key per row, and the keys change. That the rate decides between the two is beyond gradient flow, and so
# beyond the theorems. All of it is at smaller scale than the paper's.

# %% tags=["parameters"]
text = "topics"  # help pages of Python; or "docstrings", "wikitext2", "wikitext103"
directory = ""  # folder with WikiText; empty: download
vocabulary_size = 1000  # most frequent words, the rest is <unk>; None: all
width = 96  # of the model and of its ReLU network
learning_rate = 5.0  # twice that in the ReLU network
dropout = 0.3
seed = 0
steps = 1500
figure_steps = [0, 500, 1000, 1500]
evaluation_steps = [0, 50, 100, 200, 300, 500, 750, 1000, 1500]
snapshot_steps = [0, 100, 300, 500, 750, 1000, 1500]
map_window = 50  # window of the training text whose maps are shown; published: 100
probe_windows = 18  # of the validation text, where attention on words is measured
deep_layers = 3
deep_steps = 0  # 0: the archived run
rate_texts = ["topics"]
rate_vocabulary_size = 300
rate_width = 64
rate_steps = 150
rate_evaluations = 3
rates = [1.0, 2.0, 3.0, 4.0, 5.0]
rate_seeds = [0, 1]
archive = "results/scan_snap/figure10.nc"  # see experiments_real_text.make_archive
slow_archive = "results/scan_snap/figure10_slow.nc"
long_archive = "results/scan_snap/figure10_docstrings.nc"
deep_archive = "results/scan_snap/figure7_deep.nc"
explorer_rates = [1.0, 3.0]  # of the archived runs
device = "cpu"
progress = True  # a bar while training

# %% tags=["hide-input"]
from IPython.display import Markdown

from learndyn.core.claims import Ledger
from learndyn.core.explorer import explore
from learndyn.core.plotting import show, use_style
from learndyn.core.source import source
from learndyn.core.tables import frame_html
from learndyn.core.text_training import uniform_causal_entropy
from learndyn.scan_snap import experiments_real_text as experiments
from learndyn.scan_snap import experiments_real_text_words as text_words
from learndyn.scan_snap import figures_real_text as figures
from learndyn.scan_snap.claims import real_text as claims
from learndyn.scan_snap.settings_real_text import RealText

use_style()
settings = RealText.from_notebook(globals())
paper = settings.is_published_model
ledger = Ledger("scan_snap", "real_text", claims.CLAIMS)

# %% [markdown]
# ## The published maps
#
# The paper shows how 35 consecutive words attend to each other, at four moments of training. We read the weights off the colours of
# the printed image. Look for vertical stripes: keys that many queries agree on.

# %%
theirs = experiments.published_maps()
published = experiments.map_statistics(theirs)
ends = published.entropy.values[[0, -1]]
show(
    figures.maps(theirs, f"Published: {ends[0]:.2f} nats at the start, {ends[1]:.3f} at the end"),
    name="scan-published-maps",
    source="Figure 7",
    caption="Attention of one layer on 35 words of WikiText-2, row: query, column: key, decoded from the paper's image.",
)

# %% [markdown]
# ## The model
#
# It is the word-language model of PyTorch's examples. Word $x_i$ at place $i$ enters as $s_i=\sqrt d\,u_{x_i}+p_i$, its embedding
# and a sinusoid of its place {cite:p}`vaswani2017attention`, and attends to itself and to what came before:
#
# $$
# \begin{aligned}
# a_{ij}&=\frac{e^{q_i\cdot k_j/\sqrt d}}{\sum_{j'\le i}e^{q_i\cdot k_{j'}/\sqrt d}}\quad(j\le i),\\
# q_i&=W_Qs_i,\qquad k_j=W_Ks_j.
# \end{aligned}
# $$ (eq-scan-real-text-attention)
#
# Residual connections, layer normalisations, a ReLU network and a decoder follow. The paper's $z_{ml}$ has become
# $q_i\cdot k_j/\sqrt d$. The entropy of the rows,
#
# $$
# H=-\Bigl\langle\textstyle\sum_{j\le i}a_{ij}\ln a_{ij}\Bigr\rangle_i ,
# $$ (eq-scan-real-text-entropy)
#
# is $\ln(T!)/T$ if row $i$ is uniform over the $i$ places that it sees:

# %%
data = experiments.load(settings, settings.text, settings.vocabulary_size)
uniform = uniform_causal_entropy(settings.figure7.window_length)
Markdown(
    f"That is {uniform:.3f} nats for $T=35$. The text here is `{data.name}` (in the quick profile the help pages of Python): "
    f"{data.train.ids.numel():,} words to train on in "
    f"{data.train.columns} columns, {data.validation.ids.numel():,} to validate on, {len(data.vocabulary):,} different ones."
)

# %% [markdown]
# The same function measures the published maps and ours. Beside {eq}`eq-scan-real-text-entropy` it counts rows that are
# `decided` (one weight above 0.95), and the `key_columns` that have `won` a row (weight above 0.5), which are the stripes:

# %% tags=["remove-input"]
source(experiments.map_statistics)

# %% [markdown]
# ## Figure 7: attention becomes sparse
#
# The recipe is the published one (SGD without momentum, rate 5, in the ReLU network 10; dropout 0.3; gradients clipped to norm
# 0.5; batches of 20 × 35 words), the text and the sizes are not. Compare the rows of the figure column by column: the same
# iterations, other words.

# %%
run = experiments.measure(settings.figure7, data, settings)
ours = run.maps.isel(run=0, layer=0, head=0)
found = experiments.map_statistics(ours)
chosen = found.sel(snapshot=list(settings.figure_steps))
show(
    figures.maps_beside(theirs, ours.sel(snapshot=chosen.snapshot)),
    name="scan-fig7",
    source="Figure 7",
    caption="Attention of one layer on 35 words of the training text, without dropout. Above: published, WikiText-2; below: ours, "
    f"{data.name}. Decided: rows with a weight above 0.95.",
)

# %% [markdown]
# The same in numbers, ours at more moments. Look at which of the two is first.

# %%
show(
    figures.statistics(found, published, settings.figure7.window_length),
    name="scan-fig7-statistics",
    source="Figure 7",
    caption="Mean row entropy and share of decided rows of the maps. Line: ours; circles: published. Dotted: uniform attention.",
)

# %%
frame_html(experiments.statistics_table({"published": published, "ours": chosen}), label="Maps in numbers")

# %%
entropy = run.attention_entropy.isel(run=0, layer=0)
stripes = float(run.columns_per_row.isel(run=0, evaluation=-1))
ledger.check("scan.fig7-entropy", claims.Falls(entropy, chosen), at_paper_scale=paper)
ledger.check("scan.fig7-decided", chosen, at_paper_scale=paper)
ledger.check("scan.fig7-stripes", stripes, at_paper_scale=paper)
Markdown(
    f"On {settings.probe_windows} windows of the validation text the entropy ends at {float(entropy[-1]):.2f} nats. A window has "
    f"{stripes:.2f} key columns for each row with a winner. If each row chose one of its keys by lot, there would be "
    f"{experiments.random_key_columns(35) / 35:.2f}: the stripes are real."
)

# %% [markdown]
# ### Three layers
#
# The paper's second row is a model of three layers, of which it shows the lowest. Look at the other two: they stay dense.

# %%
deep = experiments.deep_run(settings, data)
ledger.check("scan.fig7-deep", deep, at_paper_scale=paper and settings.deep_steps > 0)
show(
    figures.depth(run, deep, settings.figure7.window_length),
    name="scan-fig7-deep",
    source="Figure 7",
    caption=f"Attention entropy on the validation text. One layer: the run above. Three: {experiments.origin(deep)}.",
)

# %% [markdown]
# ## Figure 10: the larger the rate, the sparser
#
# Now one rate for all parameters, at several rates and seeds. The ensemble trained here is small and short; beside it stand
# archived runs, longer, with a vocabulary of 2000 words and width 128. Look at the slope, not at the level: the level depends on when one stops.

# %%
trained = experiments.rate_runs(settings)
archived = experiments.read_archive(settings.archive)
everything = trained | {experiments.origin(archived): archived}
falls = experiments.ends(everything.values())
ledger.check("scan.fig10-falls", falls, at_paper_scale=settings.is_published_sweep)
show(
    figures.figure10(everything),
    name="scan-fig10",
    source="Figure 10",
    caption="Attention entropy on the validation text at the end of training, mean and standard deviation over seeds.",
)

# %%
frame_html(experiments.entropy_table(everything), label="Attention entropy at the end")

# %% [markdown]
# ### Is it the rate, or the time?
#
# A larger rate also gets further in the same number of iterations. Gradient flow knows only the product of the two: if that
# were all, the curves on the right would be one, as we had guessed. Look at how long they stay together, and at the dashed one:
# rate 1, trained five times longer.

# %%
slow = experiments.read_archive(settings.slow_archive)
entropies = experiments.at_equal_product(archived, slow)
ledger.check("scan.text-rate", claims.EqualTime(*entropies), at_paper_scale=False)
show(
    figures.time(archived, slow),
    name="scan-time",
    caption="Attention entropy on the validation text, archived runs by learning rate, mean over seeds. Left: against the "
    "iteration; right: against rate × iteration.",
)

# %%
Markdown(
    f"At rate × iteration = {int(slow.evaluation[-1]):,}: rate 1 has {entropies[0].mean():.2f} nats, rate 5 "
    f"{entropies[1].mean():.2f}."
)

# %% [markdown]
# ### Is it the rate, or a text read too often?
#
# The paper's 1500 batches are half of WikiText-2: it reads no passage twice. Ours is short, and is read many times. A model that
# learns a text by heart might be why attention collapses. So the same runs on a longer text, the documentation strings of
# Python's library (`docstrings`), beside the help pages (`topics`).
# Look at the vertical lines, where each text has been read once: how far has the dashed curve of rate 5 come, and has the model
# begun to learn by heart?

# %%
longer = experiments.read_archive(settings.long_archive)
end = experiments.by_rate(longer).isel(evaluation=-1)
ledger.check("scan.text-passes", end, at_paper_scale=False)
show(
    figures.passes(archived, longer),
    name="scan-passes",
    caption="Archived runs at rates 1, 3 and 5. Left: attention entropy on the validation text. Right: validation loss less "
    "training loss with dropout, the size of overfitting. Solid: help pages; dashed: documentation strings.",
)

# %%
Markdown(experiments.passes_sentence(archived, longer))

# %% [markdown]
# ## Does it snap?
#
# In the theory attention freezes long before one token has it all. In the published maps it does not: at the end nearly every row has
# a single key, mostly not the one that it had 500 iterations earlier.

# %%
theirs_kept = experiments.kept_winners(theirs, "snapshot").values
kept = experiments.kept_winners(ours.sel(snapshot=chosen.snapshot), "snapshot")
Markdown(
    f"Rows that keep their strongest key from one published map to the next: {', '.join(f'{100 * k:.0f} %' for k in theirs_kept)}; "
    f"in ours {', '.join(f'{100 * float(k):.0f} %' for k in kept)}. (The first row sees one key only and is not counted.)"
)

# %% [markdown]
# That is rate 5. Look at the upper rows of the table: at small rates the entropy comes to rest far above zero, which is what
# the paper calls a snap, and more of the rows keep their key.

# %%
ledger.check("scan.text-snap", slow, at_paper_scale=False)
table = experiments.freeze_table(archived)
words = {
    "rate": "rate",
    "entropy": "entropy at the end (nats)",
    "change": "change over the last third (nats)",
    "kept": "rows that keep their key over the last third",
}
frame_html(table, words, formats=figures.FREEZE_FORMATS, label="Snap by rate")

# %% [markdown]
# What ends the snap at large rates we have not measured. In the theory the force dies with the error of the decoder. On text
# the loss stays at several nats, so there is noise in every batch, and its effect per unit of rate × iteration grows with
# the rate.
#
# ## Which words win?
#
# The theory is about words. Let $R_l$ be the attention that word $l$ receives from later places on the validation text, and
# $U_l$ what it would receive if every row were uniform. The *gain*
#
# $$
# G_l=\ln\frac{R_l}{\sum_k R_k}-\ln\frac{U_l}{\sum_k U_k}
# $$ (eq-scan-real-text-gain)
#
# stands for $z_{ml}$ averaged over the queries. The most frequent words are surely common. But the paper's *common* and *distinct* are
# about what a word says of the next one. We measure that by
#
# $$
# \begin{aligned}
# S_l={}&\mathrm{KL}\bigl(P(\text{next}\mid l\text{ in window})\\
# &\qquad\|\,P(\text{next})\bigr)\\
# &-\text{the same on shifted text},
# \end{aligned}
# $$ (eq-scan-real-text-specificity)
#
# the *specificity*; the second term takes off what a small sample would give by chance. In code, where `_followers` counts the
# pairs of a word and a later one in the same window, and its last argument shifts the text:

# %% tags=["remove-input"]
source(text_words.specificity, text_words._information)

# %% [markdown]
# Look left at the words that make more than 1 % of the text, right at the distance between the outer curves.

# %%
middle = experiments.at_rate(archived, 3.0)
ledger.check("scan.text-common", archived, at_paper_scale=False)
ledger.check("scan.text-specific", archived, at_paper_scale=False)
show(
    figures.word_gains(middle, (0, 100, 500, 1500)),
    name="scan-word-gains",
    source="Theorem 2, on text",
    caption="Gain of words by frequency, at four iterations, and by specificity: archived runs at rate 3, mean and standard "
    "deviation over five seeds.",
)

# %% [markdown]
# Theorem 3 says more: among distinct tokens the frequent ones win first. Look right, at the first few hundred iterations;
# later the sign may turn. And compare the rates on the left. Where attention snaps, it keeps to specific words; at rate 5, where
# the rows are decided one by one, it loses them again.

# %%
ledger.check("scan.text-frequency", archived, at_paper_scale=False)
show(
    figures.word_correlations(archived),
    name="scan-word-correlations",
    source="Theorems 2 and 3, on text",
    caption="Rank correlation over words of the gain with the specificity, at equal frequency (left), and with the frequency "
    "among the most specific third (right), by learning rate, mean over five seeds.",
)

# %% [markdown]
# The same for single words, in the run of Figure 7 at one iteration. Look for the words of grammar at the right, and for the
# spread at the left.

# %%
moment = min(run.evaluation.values, key=lambda step: abs(int(step) - settings.steps // 3))
show(
    figures.word_scatter(run, int(moment)),
    name="scan-words",
    caption="Words by frequency and gain. Area: exposure, how often a word can be attended to. Named: those that move most attention.",
)

# %% [markdown]
# ## Words or places?
#
# The theory has no positions. This model has; does it use them? We shuffle the first 34 words of each window and ask the last
# word again. A model that attends to words gives each of them what it gave before, wherever it stands now; one that attends to
# places gives it what its new place had. Look left at the distance between the curves, right at a place that one would expect a
# language model to like.

# %%
show(
    figures.places(run, archived),
    name="scan-places",
    caption="Left: attention of the last word that a shuffle of the others leaves, word by word, in the run of Figure 7. Right: "
    "mean weight of the word before, archived runs by learning rate; dotted: what uniform attention gives it.",
)

# %% [markdown]
# At small rates places do count: the word before gets more than its share, and a shuffle takes a good part of the attention. The
# columns are those of the figure at the end of training: left panel first, then the right one.

# %%
words = {
    "rate": "rate",
    "shuffle": "left by the shuffle",
    "by place": "left if only places counted",
    "before": "weight of the word before",
}
formats = dict.fromkeys(("shuffle", "by place", "before"), "{:.2f}")
frame_html(table, words, formats=formats, label="Words and places by rate")

# %% [markdown]
# ## What breaks the theory here
#
# | the theory | this model | how much it matters |
# |---|---|---|
# | no positions | sinusoids | little at rate 5, more at small rates: the shuffle above |
# | the query is masked out | a word sees itself | little: numbers below |
# | fresh independent sequences; what comes next can be known | consecutive windows of one text; it cannot be known | the loss does not go to zero, and at rate 5 attention does not freeze |
# | $Y$ and $Z$ are free matrices | products of embeddings, $W_Q$, $W_K$, $W_V$; residual, normalisations, ReLU network | not separated here |
# | plain gradient | dropout, clipping | exercises 1 and 2 |
# | one layer | one, or three | upper layers stay dense |

# %%
own = [float(some.places.sel(place="self").isel(evaluation=-1).mean()) for some in (archived, run)]
Markdown(
    f"Weight of a row's own word at the end: {own[0]:.2f} in the archived runs, {own[1]:.2f} in that of Figure 7; uniform "
    f"attention would give {experiments.uniform_own_weight(settings.figure7.window_length):.2f}. Training loss of the run of "
    f"Figure 7 at the end: {float(run.train_loss[0, -1]):.2f} nats, at the start {float(run.train_loss[0, 0]):.2f}."
)

# %% [markdown]
# ## Explorer: stripes come and go
#
# One window of the training text, archived runs of one seed, and the run above.

# %%
choices = experiments.maps_of_rates(archived, settings.explorer_rates) | {f"{settings.learning_rate:g}, here": ours}
common = [int(t) for t in archived.snapshot.values if all(t in m.snapshot for m in choices.values())]
explore(
    lambda rate, iteration: figures.map_frame(choices, rate, iteration),
    {"rate": list(choices), "iteration": common},
    name="scan-map-explorer",
    labels={"rate": "learning rate"},
    start={"rate": list(choices)[-1], "iteration": common[-1]},
    source="Figure 7",
    caption="Attention map of one layer; above it the words that win a row with more than half of its weight. Move the iteration: "
    "do the winning words stay? Then the rate: at rate 1, has anything won?",
)

# %% [markdown]
# ## Where the story stops
#
# - The answer: the paper's words describe text better than its figure does. At rates 1 to 3 attention scans (common words lose,
#   specific ones win, the frequent among them first) and comes to rest dense. At rate 5, that of Figure 7, it goes on to one key per
#   row, the keys change, and what they say about the next word matters less and less.
# - Equal products of rate and iteration, unequal ends: that is beyond gradient flow, and so beyond every theorem of this chapter.
#   Between rate 3 and rate 5 something gives way. Try more `rates` there, `width = 64`, which puts the
#   collapse of Figure 7 off by far, or `vocabulary_size = 500`, which hastens it.
# - Our texts are small. The short one is read many times in 1500 iterations, of WikiText-2 it is one half. On the longer one the
#   fall at rate 5 begins in the first reading, but both are technical prose. The paper profile trains on WikiText (`text`,
#   `directory`).
# - The paper trains Figure 10 "until convergence" and gives no number of iterations; `rate_steps` is the parameter to change.
# - The authors' notebook prints test losses beside these maps. That evaluation stops early and divides by the full
#   length, so we do not repeat the numbers.
# - With Adam the entropy comes back up after its fall (exercise 3). That bounce is the subject of the follow-up work, JoMA
#   {cite:p}`tian2024joma`. Attention that collapses onto few keys is also known from large models, as sinks
#   {cite:p}`xiao2024sinks` and as a cause of unstable training {cite:p}`zhai2023collapse`.
#
# ## Exercises
#
# Each changes one parameter of one run of the small ensemble, at its largest rate.
#
# **1.** Set `dropout` to 0. Does attention still become sparse?

# %% tags=["hide-cell"]
usual = experiments.at_rate(next(iter(trained.values())), max(settings.rates)).isel(run=0)
sure = experiments.variant(settings, dropout=0.0)
usual_end, sure_end = (float(some.attention_entropy.isel(layer=0, evaluation=-1)) for some in (usual, sure))
Markdown(
    experiments.compare({"with dropout": usual, "without": sure})
    + f" Attention ends {'sparser' if sure_end < usual_end else 'denser'} without dropout."
)

# %% [markdown]
# **2.** Do not clip the gradients (`clip_norm=None`). How much of the recipe hangs on it?

# %% tags=["hide-cell"]
free = experiments.variant(settings, clip_norm=None)
Markdown(experiments.compare({"clipped": usual, "not clipped": free}))

# %% [markdown]
# **3.** Train with Adam at rate 0.002. What does the entropy do after its fall?

# %% tags=["hide-cell"]
adam = experiments.variant(settings, optimizer="adam", learning_rate=2e-3)
curve = adam.attention_entropy.isel(layer=0)
lowest = curve.isel(evaluation=int(curve.values.argmin()))
Markdown(
    experiments.compare({"SGD": usual, "Adam": adam})
    + f" Adam's lowest value was {float(lowest):.2f}, at iteration {int(lowest.evaluation)}."
)

# %% [markdown]
# ## Claims

# %%
ledger
