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
# # A ResNet takes the steps
#
# **What the paper claims.** A ResNet-50 {cite:p}`he2016resnet` trained on STL-10 {cite:p}`coates2011stl10` with Barlow Twins,
# SimCLR or VICReg learns its embedding in steps too: clearly from small initialisation, still visibly from the usual one, and
# in its hidden layers at the same times. Once trained, its own tangent kernel predicts what it has learned: the predicted
# embeddings span much of the same subspace as the true ones, 0.615, 0.517 and 0.592 of it where random subspaces share 0.025
# {cite:p}`simon2023stepwise`.
#
# **What you will see.** All of it with a ResNet small enough for a laptop, on crops of two photographs; what happens if the
# loss is not centred; and that the tangent kernel *before* training tells when each step will come. The published
# experiment is a parameter set of this notebook.

# %% tags=["parameters"]
task = "photos"  # fixed pairs of crops of two photographs; or "stl10"
directory = ""  # where STL-10 is; empty: download it
split = "train+unlabeled"  # of STL-10
pairs = 96  # fixed pairs; on stl10 those for spectra and kernels
batch_size = 512  # stl10
view_size = 0  # stl10: side of the augmented views, 0: that of the images
backbone = "small"  # or "resnet18", "resnet50"
stem = "standard"  # resnet18 and resnet50: "standard" or "cifar"
projector = []  # hidden layers between features and embedding
dimensions = 8  # d
seeds = [0]
# for Barlow Twins, VICReg, SimCLR:
steps = [1200, 700, 500]
learning_rates = [0.01, 0.1, 0.05]
body_scale = 0.5  # alpha_body
head_scales = [0.01, 0.03, 0.01]  # alpha_head
head_biases = [0.0, 0.0, 1.0]  # standard deviation of a last bias
momentum = 0.0
weight_decay = 0.0
schedule = "constant"  # or "cosine"
vicreg_weights = [1.0, 1.0, 0.2]  # invariance, variance, covariance
temperature = 0.2  # SimCLR
regular_steps = [150, 150, 100]  # all scales 1, no bias
regular_learning_rates = [0.001, 0.03, 0.05]
control_steps = 130  # Barlow Twins without centring
exercise_steps = 80
representation_modes = 192  # eigenvalues of the hidden layer
snapshots = 90  # networks kept on the way
explorer_steps = [2, 8, 14, 26, 60, 80, 118, 230, 450]
kernel_outputs = []  # averaged over in the tangent kernel; none: all
kernel_block = 256  # MB of its Jacobian at a time
autocast = "none"  # or "bfloat16", on a GPU
channels_last = False
checkpoints = ""  # a folder from which training resumes
checkpoint_every = 1000
device = "cpu"
progress = True  # a bar while training

# %% tags=["hide-input"]
from IPython.display import Markdown
from matplotlib.figure import Figure

from learndyn.core.backbones import SmallResNetConfig
from learndyn.core import spectra
from learndyn.core.claims import Ledger
from learndyn.core.device import generator
from learndyn.core.explorer import explore
from learndyn.core.plotting import show, use_style
from learndyn.core.source import source as code
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss
from learndyn.core.tables import frame_html
from learndyn.ssl_dynamics.stepwise import figures_networks as drawings
from learndyn.ssl_dynamics.stepwise import figures_resnet as figures
from learndyn.ssl_dynamics.stepwise import prediction, published
from learndyn.ssl_dynamics.stepwise import settings_resnet as experiment
from learndyn.ssl_dynamics.stepwise.claims import resnet as claims

use_style()
settings = experiment.Resnet.from_notebook(globals())
paper = settings.is_published_setup
ledger = Ledger("ssl_dynamics", "stepwise_resnet", claims.CLAIMS)

# %% [markdown]
# ## The data
#
# A positive pair is two random crops of one patch of a photograph, drawn once and kept. The linear theory
# ([Exactly solvable self-supervised learning](stepwise_linear.py)) would look at one thing only, the eigenvalues of the cross-covariance $\Gamma$ of the pixels. Look at
# how steep its spectrum is, and where it has its widest gap after the first mode.

# %%
source = experiment.pair_source(settings)
gamma = experiment.pixel_spectrum(source)
show(
    figures.crops(source, gamma),
    name="stepwise-pairs",
    caption="Above: views of six images. Below: the largest eigenvalues of $\\Gamma$ of the pixels; dashed: the "
    "widest gap between neighbours after the first mode.",
)

# %% [markdown]
# ## The network, and what is not known of the paper's
#
# The small network has a 3×3 convolution and two residual blocks, all with batch normalisation, whose last feature map is
# *flattened* and mapped to $d$ dimensions by a linear head. Two scales multiply its initial parameters $\theta_0$:
#
# $$
# \begin{aligned}
# \theta_\text{body}&=\alpha_\text{body}\,\theta_{0,\text{body}},\\
# \theta_\text{head}&=\alpha_\text{head}\,\theta_{0,\text{head}} .
# \end{aligned}
# $$ (eq-stepwise-resnet-scales)
#
# The head carries most of the smallness: with all layers small, the plateaus of a deep network become very long
# ([A small network takes the steps](stepwise_mlp.py)). SimCLR compares directions only, so a small head means nothing to it; a bias of the head pins all
# embeddings to one point at first.
#
# Of the paper's ResNet runs these are **not known**, and therefore parameters: learning rates, momentum, weight decay, schedule,
# batch size, number of epochs; the scale of the initialisation; whether there was a projector; the temperature and the weights
# of the losses; whether $C$ was normalised; how batch normalisation was treated in the tangent kernel, and which outputs it
# used. The embedding's dimension is not stated either, but can be inferred, as the section on the table shows. All values here are ours.
#
# ## Barlow Twins
#
# The loss of the theory, with the mean of each view's embeddings $f_i=f(x_i)$, $f_i'=f(x_i')$ taken out,
#
# $$
# \begin{aligned}
# \mathcal L&=\lVert C-I\rVert_F^2,\\
# C&=\tfrac1{2n}\sum_i\bigl(\tilde f_i\tilde f_i'^\top+\tilde f_i'\tilde f_i^\top\bigr),\\
# \tilde f_i&=f_i-\tfrac1n\sum_kf_k,
# \end{aligned}
# $$ (eq-stepwise-resnet-loss)
#
# and $\tilde f_i'$ likewise, starts at $d$. (Its code is on the page before, [A small network takes the steps](stepwise_mlp.py);
# `centre` is true here.) Look from one panel to the other: each drop of the loss is the rise of one eigenvalue.

# %%
trained = {"barlow_twins": experiment.train(settings, "barlow_twins", source)}
logs = {"barlow_twins": trained["barlow_twins"].log}
for claim in ("staircase", "plateaus", "end", "levels"):
    ledger.check(f"stepwise.resnet-bt-{claim}", logs["barlow_twins"], at_paper_scale=paper)
show(
    drawings.staircase(figures.panels(logs, counted=True), width=5.6),
    name="stepwise-resnet-barlow-twins",
    source="ResNet figures (Barlow Twins)",
    caption="Loss, and eigenvalues of the covariance of all embeddings. Dotted: half times.",
)

# %%
bt = logs["barlow_twins"]
levels = claims.participation_levels(bt, 0, plateaus=settings.dimensions - 1)
Markdown(
    f"Loss {float(bt.loss[0, 0]):.2f} → {float(bt.loss[0, -1]):.1e}. The participation ratio of the embeddings is "
    f"{float(drawings.participation(bt.isel(run=0))[0]):.1f} at the start (noise), and in the middle of the clean plateaus "
    + ", ".join(f"{level:.2f}" for level in levels if level == level)
    + "."
)

# %% [markdown]
# ### A point, a line, a sheet
#
# The embeddings themselves, in the middle of plateaus 0 to 3, in their three leading principal components. Look at the
# directions in use: none, then axis 1, then 2, then 3.

# %% tags=["hide-input"]
show(
    figures.clouds(logs["barlow_twins"], settings.groups),
    name="stepwise-resnet-clouds",
    source="Blog post, animated figure",
    caption="Embeddings of both views of all pairs (Barlow Twins), on one scale. With the photographs, colours say which of the "
    "two a crop is from.",
)

# %% [markdown]
# ## VICReg and SimCLR
#
# Two other losses, described on the page before ([A small network takes the steps](stepwise_mlp.py)), with the same network and pairs. Look at the
# eigenvalues: still one at a time. VICReg's loss is a staircase that ends near zero. SimCLR's does not end there, and of its
# stairs only the first can be seen: the later ones are small against its jitter.

# %%
for method in ("vicreg", "simclr"):
    trained[method] = experiment.train(settings, method, source)
    logs[method] = trained[method].log
    ledger.check(f"stepwise.resnet-{method}-plateaus", logs[method], at_paper_scale=paper)
others = {method: logs[method] for method in ("vicreg", "simclr")}
show(
    drawings.staircase(figures.panels(others, counted=True)),
    name="stepwise-resnet-others",
    source="ResNet figures (SimCLR, VICReg)",
    caption="As above, with the other two losses. VICReg's first eigenvalue is up after three steps, hence the corners.",
)

# %% [markdown]
# ## Hidden layers step along
#
# The loss sees embeddings only. The layer below starts with random features of order one, although the body's parameters are
# scaled down, too: batch normalisation undoes the scale of the convolution before it, and what remains of
# $\alpha_\text{body}$ is its own scale and that of the shortcuts. Look at the upper panels: a background that is there from the
# start, and on it the same steps at the same times.

# %% tags=["hide-input"]
show(
    drawings.hidden(figures.panels(logs)),
    name="stepwise-resnet-hidden",
    source="Hidden representations figure",
    caption="Eigenvalues of the covariance of the last feature map (above: the largest fourteen, log axis) and of the embedding (below). Dotted: half "
    "times of the embedding.",
)

# %% [markdown]
# In one number, the participation ratio: look for the two curves climbing together. With SimCLR the hidden layer goes on
# where the embedding, which has all of its $d$ dimensions, has to stop.

# %% tags=["hide-input"]
ledger.check("stepwise.resnet-hidden-steps", logs, at_paper_scale=paper)
ledger.check("stepwise.resnet-hidden-background", logs, at_paper_scale=paper)
show(
    figures.participation(logs, published.hidden_participation_ratio()),
    name="stepwise-resnet-participation",
    source="Hidden representations figure",
    caption="Participation ratio of the embeddings (indigo) and of the hidden layer (rust; thin: of its sixteen largest "
    "eigenvalues alone). Dotted: half times. Circles: earlier runs of ours with other random numbers; how many eigenvalues "
    "entered there is not recorded. Where it matters most, at the end with SimCLR, they are near the thin line.",
)

# %% [markdown]
# ## Explorer: loss, spectra and cloud together

# %% tags=["hide-input"]
runs, kept, scores = {}, {}, {}
for method, words in experiment.METHODS.items():
    runs[words] = logs[method].isel(run=0)
    kept[words] = experiment.kept_steps(trained[method], settings.explorer_steps)
    scores[words] = drawings.principal_components(runs[words].embedding.sel(snapshot=kept[words]).values)


def moment_of(method: str, moment: int) -> Figure:
    place, reach = moment - 1, drawings.cloud_reach(scores[method])
    return figures.frame(runs[method], scores[method][place], kept[method][place], reach, settings.groups)


# %% tags=["hide-input"]
explore(
    moment_of,
    {"method": list(runs), "moment": range(1, len(settings.explorer_steps) + 1)},
    name="stepwise-resnet-explorer",
    start={"moment": (len(settings.explorer_steps) + 1) // 2},
    caption="Loss, eigenvalues of embedding and hidden layer, three-component cloud. Move the moment: at each drop of the loss "
    "the cloud gains a direction, and on a plateau it keeps those it has. With SimCLR the cloud shrinks again, since nothing "
    "in its loss fixes a size.",
)

# %% [markdown]
# ## From regular initialisation
#
# All scales 1, no bias, learning rates that train. Eigenvalues now start a little below where they end, so several are in
# motion at once. Look at the lower panels for curves that wait before they rise. With SimCLR they are the hardest to see,
# since its eigenvalues jitter with every step.

# %%
regular = {name: experiment.train(settings, name, source, regular=True).log for name in experiment.METHODS}
ledger.check("stepwise.resnet-regular", claims.Starts(logs, regular), at_paper_scale=paper)
show(
    figures.against_regular(logs, regular),
    name="stepwise-resnet-regular",
    source="Regular initialisation figures",
    caption="Eigenvalues of the embeddings' covariance from small (above) and regular initialisation (below).",
)

# %% [markdown]
# The paper also shows histograms of log eigenvalues during training, with two humps: those learned and those not yet. Look at
# what lies between the humps.

# %% tags=["hide-input"]
ledger.check("stepwise.resnet-humps", logs, at_paper_scale=paper)
claims.decide_regular_humps(ledger, regular, at_paper_scale=paper)
show(
    figures.humps(logs, regular),
    name="stepwise-resnet-histograms",
    source="Histograms of log eigenvalues",
    caption="All eigenvalues at all logged steps between the first and the last half time, as shares of their final value; what "
    "is below 1e-6 is counted at the left edge.",
)

# %% [markdown]
# From small initialisation little is under way at any time. From the regular one there is a single hump here: with eight
# eigenvalues that start within a decade of their end there is no room for two. The paper's networks have more of them.
#
# ## A wrong configuration: the loss not centred
#
# With {eq}`eq-stepwise-resnet-loss` as the theory has it, without taking means out, the first eigenvector of the network's
# kernel is close to the constant function. Look at the two right columns: an eigenvalue of $C$ reaches 1 and the loss falls by
# one early, while the covariance gains a fraction of that: most of the step is that all embeddings move to one point. Then
# the other steps follow, with one dimension less to learn them in. The first mode rings, since for its large eigenvalue this
# learning rate is close to the largest stable one.

# %%
changes = {"steps": settings.control_steps, "snapshot_steps": (), "representation_modes": 0}
wrong = experiment.train(settings, "barlow_twins", source, loss=BarlowTwinsTheoryLoss(), **changes)
ledger.check("stepwise.resnet-constant", wrong.log, at_paper_scale=paper)
show(
    figures.uncentred(logs["barlow_twins"], wrong.log),
    name="stepwise-resnet-uncentred",
    caption="Barlow Twins centred (left) and not, from the same start with the same learning rate. Below: eigenvalues of the "
    "covariance (left, middle), and of the $C$ that the loss sees (right; the loss is that of the middle column).",
)

# %% [markdown]
# ## What the tangent kernel knows
#
# If a trained network $f_\theta$ behaves like the kernel machine of its tangent kernel
#
# $$
# \tilde K=\frac1d\sum_{o=1}^{d}J_oJ_o^\top,\quad J_o=\frac{\partial f_{\theta,o}}{\partial\theta}
# $$ (eq-stepwise-resnet-kernel)
#
# ($J_o$: $2n$ views × parameters), then [Kernels and wide networks](stepwise_kernel.py) says what it has learned,
# $F_\text{th}=\operatorname{diag}(\gamma^{-1/2})B^\top\tilde K^{1/2}$ with the top $d$ eigenpairs of $K_\Gamma$. Rotations do not matter, so row spaces are compared,
#
# $$
# a(P_\text{exp},P_\text{th})=\tfrac1d\operatorname{tr}(P_\text{exp}P_\text{th}) .
# $$ (eq-stepwise-resnet-alignment)
#
# In code the projections are sums over singular vectors; directions in which an embedding has collapsed are left out, and $d$ is
# the larger rank:

# %% tags=["remove-input"]
code(spectra.subspace_alignment, spectra._row_space)

# %% [markdown]
# Batch normalisation would make one view's gradient depend on all others. We freeze it: its statistics become those of one
# pass of all $2n$ views. (What the paper did is not known.)

# %%
found = experiment.kernel_predictions(settings, trained, source)
for claim in ("chance", "order", "level", "aligning"):
    ledger.check(f"stepwise.ntk-{claim}", found, at_paper_scale=paper)
words = {"network": "network, data", "kernel": "kernel, view means"} | dict(experiment.METHODS)
frame_html(
    experiment.alignment_frame(settings, found),
    words | {"random": "random"},
    formats=dict.fromkeys([*experiment.METHODS, "random"], "{:.3f}"),
    label="Alignment of NTK-predicted and learned embeddings",
)

# %% [markdown]
# The first two rows are the ones to compare: both of kernels after training, of different networks on different data, with
# another $d/2n$. (Whether the paper took out view means is not known.) In the picture look at three things: how far all dots
# are from the dotted lines; that SimCLR comes last, as published; and that the kernel at the *end* of training predicts better
# than that at the start. The kernel has moved towards what was learned, which no theory of lazy training allows.

# %% tags=["hide-input"]
table = published.TABLE1
show(
    figures.alignments(found, {name: table[name].measured for name in table}, table["simclr"].random),
    name="stepwise-resnet-ntk",
    source="Table of NTK-predicted embeddings",
    caption="Alignment of learned embeddings with those predicted from the network's tangent kernel before (open) and after "
    "training (filled), view means kept. Crosses: the published values, of another network on other data. Dotted: random "
    "subspaces, ours and the paper's.",
)

# %% [markdown]
# **Fifty dimensions.** Random subspaces of dimension $d$ in $\mathbb R^N$ share $d/N$ on average. The published 0.025 with 1000
# pairs, thus $N=2000$ views, says $d=50$.

# %%
draws = experiment.random_alignments(50, 2000, draws=8, generator=generator(0, "random subspaces"))
ledger.check("stepwise.ntk-random", draws, at_paper_scale=True)
Markdown(
    f"Eight draws with $d=50$, $N=2000$: mean {draws.mean():.4f}, standard deviation {draws.std(ddof=1):.4f}."
)

# %% [markdown]
# ### The kernel before training is a clock
#
# The theory also says when. Take $\tilde K$ at initialisation, the contrastive kernel's eigenvalues $\gamma_j$, and the network's
# own initial embeddings for the $s_j(0)$; then $\tau_j=-\log(\gamma_js_j(0)^2)/8\gamma_j$ has no free parameter. Look first at the left
# panel: the network's spectrum is less steep than that of the pixels, so the gap of $\Gamma$ is not what spaces the steps. Then at
# the right one.

# %%
ledger.check("stepwise.ntk-clock", (found, logs["barlow_twins"]), at_paper_scale=paper)
show(
    figures.clock(found, logs["barlow_twins"], gamma),
    name="stepwise-resnet-clock",
    caption="Left: largest eigenvalues of $\\Gamma$ of the pixels and of $K_\\Gamma$ of the network before and after training with "
    "Barlow Twins. Right: half times of the eigenvalues of $C$ against those predicted before training; shaded: within a factor of two.",
)

# %% [markdown]
# Most steps come earlier than the first kernel says, for the kernel grows along the way: with a small head, the body hardly
# contributes to it at first. Narrow MLPs are early too ([Kernels and wide networks](stepwise_kernel.py)). With other seeds (try 1) single steps are late.
#
# ### Do the methods learn the same thing?
#
# The authors add in a blog post that embeddings of different methods resemble each other.

# %%
resemblance = claims.Resemblance(
    experiment.method_alignment(settings, trained, source), float(found.attrs["random"])
)
ledger.check("stepwise.resnet-resemblance", resemblance, at_paper_scale=paper)
Markdown(
    "Alignment of the learned subspaces, view means removed: "
    + "; ".join(
        f"{experiment.METHODS[one]} and {experiment.METHODS[other]} {value:.2f}"
        for (one, other), value in resemblance.pairs.items()
    )
    + f"; random subspaces {resemblance.random:.3f}."
)

# %% [markdown]
# ## Where the story stops
#
# - Alignment says how much of a subspace is predicted, not why the rest is missed. SimCLR at a low temperature pushes every
#   pair away from every other and ends at a solution that is no spectral one. Raise `temperature` to 0.5 or 1: does its alignment
#   rise as it does with digits (exercise 1 of [A small network takes the steps](stepwise_mlp.py))?
# - With `seeds = [0, 1, 2]` the spacing of the steps changes, and in earlier runs of ours the alignments did by a tenth and
#   more; the order of the methods did not. SimCLR's also depends on when one stops: in an earlier run it fell on from here. A
#   table with one number per method hides both.
# - These pairs are few and fixed. With fresh augmentations in mini-batches (`task = "stl10"`) the noise of $C$ keeps the loss of
#   Barlow Twins away from zero, as it does with digits ([A small network takes the steps](stepwise_mlp.py)).
# - The paper's own runs: `papermill -f profiles/paper/ssl_dynamics/stepwise_resnet.yaml` trains a ResNet-50 on STL-10 in the cells
#   above, on a GPU, with `checkpoints` to resume from. No result of it is on this page. Its unknown values are guesses;
#   `body_scale`, `head_scales` and `learning_rates` are the ones to try first.
# - Later work by the same group finds steps like these in word embeddings {cite:p}`karkada2025word2vec` and, for other networks,
#   alternating phases of waiting and growing {cite:p}`kunin2025alternating`. According to a footnote of the paper, BYOL does not show steps right away.
#
# ## Exercises
#
# Each changes one thing. Exercises 1 and 2 are about the small network on photographs.
#
# **1.** ResNets average over the last feature map instead of flattening it (`pool="average"`). When does Barlow Twins take
# its first step then, in effective time? (The learning rate may be five times as large.)

# %% tags=["hide-cell"]
few, many = min(30, settings.exercise_steps), settings.exercise_steps
early = experiment.first_step(steps=few)
average = SmallResNetConfig(pool="average")
late = experiment.first_step(network=average, learning_rate=0.05, steps=many)
Markdown(
    f"At time {late:.2f} instead of {early:.2f}, {late / early:.0f} times later. Averaging leaves what all places share; once "
    "the mean over the images is taken out as well, little is left, and the kernel's eigenvalues are that much smaller."
)

# %% [markdown]
# **2.** Take batch normalisation away (`batch_norm=False`). Which $\alpha$ in {eq}`eq-stepwise-resnet-scales` matters more now?

# %% tags=["hide-cell"]
plain = SmallResNetConfig(batch_norm=False)
bare = experiment.first_step(network=plain, steps=many)
larger = experiment.first_step(network=plain, body_scale=0.75, learning_rate=0.003, steps=few)
Markdown(
    f"First step at time {bare:.2f} instead of {early:.2f}; with $\\alpha_\\text{{body}}=0.75$ at {larger:.2f}. Without normalisation nothing "
    "undoes $\\alpha_\\text{body}$ between the layers: it shrinks the features layer by layer, and with them the kernel."
)

# %% [markdown]
# **3.** Which outputs did the paper's kernel use? Set `kernel_outputs` to `[0]`. Does it matter for the table?

# %% tags=["hide-cell"]
single = {}
for method, training in trained.items():
    matrix = experiment.kernel_of(settings, training.network(), experiment.first_run(source), outputs=[0])
    embeddings = prediction.network_embeddings(
        training.network().to(matrix.device), experiment.first_run(source)
    )
    single[method] = prediction.alignment(matrix, embeddings).raw
Markdown(
    "From the first output's kernel alone: "
    + ", ".join(f"{experiment.METHODS[name]} {value:.3f}" for name, value in single.items())
    + "; from the mean over all outputs: "
    + ", ".join(
        f"{float(found.alignment.sel(loss=name, when='end', means='kept')[0]):.3f}" for name in single
    )
    + "."
)

# %% [markdown]
# ## Claims

# %%
ledger
