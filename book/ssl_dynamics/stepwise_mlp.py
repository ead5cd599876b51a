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
# # A small network takes the steps
#
# **What the paper claims.** The linear theory has weights, and networks have layers; the steps survive. A network with one
# hidden layer, trained from small weights, learns its embedding one dimension at a time with Barlow Twins
# {cite:p}`zbontar2021barlow`, SimCLR {cite:p}`chen2020simclr` and VICReg {cite:p}`bardes2022vicreg`; at ordinary
# initialisation the steps overlap but can still be seen {cite:p}`simon2023stepwise`.
#
# **What you will see.** A network of 18,000 weights on noisy digits. First one run, with its cloud of embeddings. Then three
# losses, five scales of the initialisation and several seeds; an explorer that moves the scale; half a dozen configurations
# that do *not* step, each beside one that does; and the question whether the trained network's tangent kernel knows what was
# learned.

# %% tags=["parameters"]
seeds = [0, 1, 2]  # of data and weights
pairs = 100  # n
noise_sd = 0.15  # of each view, pixels from 0 to 1
scales = [1.0, 0.5, 0.3, 0.2, 0.1]  # alpha: what all initial weights are multiplied by
scale_rates = [0.0004, 0.006, 0.02, 0.05, 0.03]  # learning rates of Barlow Twins
other_scales = [1.0, 0.1]  # of VICReg and SimCLR
small_steps = 1000  # Barlow Twins at the smallest scale
ensemble_steps = 1500  # all others
clock_steps = 1000
head_scales = [0.1, 0.01, 0.001, 0.0001]
layer_scales = [0.3, 0.2, 0.1, 0.07, 0.05]
fresh_steps = 1000
batch_size = 128  # of the run with fresh noise
paper_images = "photographs"  # for the paper-style network; or "cifar10"
paper_directory = ""  # where CIFAR-10 is; empty: downloaded
paper_steps = 2000  # 7000 in the paper
exercise_steps = 600
explorer_steps = [1, 10, 26, 40, 55, 75, 95, 130, 165, 200, 350, 1000]
device = "cpu"
progress = True  # a bar while training

# %% tags=["hide-input"]
import numpy as np
import pandas as pd
from IPython.display import Markdown

from learndyn.core.claims import Ledger
from learndyn.core.explorer import explore
from learndyn.core.plotting import label_lines, show, use_style
from learndyn.core.source import source
from learndyn.core.tables import frame_html
from learndyn.core import ssl_losses
from learndyn.ssl_dynamics.stepwise import figures_mlp as figures
from learndyn.ssl_dynamics.stepwise import figures_networks as networks
from learndyn.ssl_dynamics.stepwise import presets, published
from learndyn.ssl_dynamics.stepwise import settings_mlp as experiment
from learndyn.ssl_dynamics.stepwise.claims import mlp as claims
from learndyn.ssl_dynamics.stepwise.figures_networks import Panel

use_style()
settings = experiment.SmallNetwork.from_notebook(globals())
ledger = Ledger("ssl_dynamics", "stepwise_mlp", claims.CLAIMS)

# %% [markdown]
# ## The task
#
# An image is a digit of 8 × 8 pixels, centred; a positive pair is the digit twice, each time with its own Gaussian noise. The
# pairs are drawn once and kept. Look at the spectrum of $\Gamma$, which decides when a *linear* model learns what
# ([Exactly solvable self-supervised learning](stepwise_linear.py)): its eigenvalues lie close together, so that the steps have to be sharp if one is to see them.

# %%
data = presets.mlp_pairs(settings.seeds[:1], settings.pairs, settings.noise_sd)
show(
    figures.task(data),
    name="stepwise-mlp-task",
    caption="Six positive pairs of digits, and all eigenvalues of the cross-covariance of the two views. The circles are an "
    "earlier result of ours for all digits.",
)

# %% [markdown]
# ## One run
#
# The network has one hidden layer of 256 rectified units, eight outputs and no biases:
#
# $$
# \begin{aligned}
# f(x)&=W_2\,\max(W_1x,0),\\
# W_1&\sim\alpha_\text{body}\,\mathcal N(0,2/64),\\
# W_2&\sim\alpha_\text{head}\,\mathcal N(0,1/256).
# \end{aligned}
# $$ (eq-stepwise-mlp-network)
#
# Its loss is that of the theory,
#
# $$
# \begin{aligned}
# \mathcal L&=\lVert C-I\rVert_F^2=\sum_{j=1}^{d}(1-\lambda_j)^2,\\
# C&=\tfrac1{2n}\sum_i\bigl(f_if_i'^\top+f_i'f_i^\top\bigr),
# \end{aligned}
# $$ (eq-stepwise-mlp-loss)
#
# with $f_i=f(x_i)$, $f_i'=f(x_i')$: a sum over the eigenvalues $\lambda_j$ of $C$ here as in the linear model, since $C$ is symmetric.
# A loss that falls in steps of 1 is therefore the same statement as eigenvalues that jump from 0 to 1 one at a time; what is
# new is *that* they do. In code, where the rows of `a` and `b` are $f_i$ and $f_i'$, seeds are further axes in front, and `centre` is
# false on this page:

# %% tags=["remove-input"]
source(ssl_losses.BarlowTwinsTheoryLoss._value)

# %% [markdown]
# All seeds train as one batched program; the first one is drawn. The last panel is the participation ratio of the
# embeddings, a smooth rank. Look at how it starts, falls, and then climbs with each step.

# %%
small = experiment.small_start(settings)
table = experiment.measure_steps(small.log)
run = small.log.isel(run=0)
moments = experiment.cloud_moments(run)
ledger.check("stepwise.mlp-barlow-twins", table, at_paper_scale=False)
ledger.check("stepwise.mlp-loss", table, at_paper_scale=False)
ledger.check("stepwise.mlp-loss-is-sum", run, at_paper_scale=True)
show(
    figures.first_run(run, moments),
    name="stepwise-mlp-run",
    source="Shallow MLP figure",
    caption="Barlow Twins from a small start. Dotted: half times, when an eigenvalue of $C$ is half of its final value. Red "
    "dots: the moments of the clouds below, with the number of modes learned by then.",
)

# %% [markdown]
# ### The cloud unfolds
#
# The same run at the red dots. Each panel shows the embeddings of both views of all images on their three leading principal
# components, all panels on one scale. The first mode is the *mean* embedding ($C$ is not centred here): all images move
# together, and the cloud about its mean is still little more than a point. Then it becomes a line, a plane, a body.

# %% tags=["hide-input"]
embeddings = run.embedding.sel(snapshot=[moment.step for moment in moments[1:]]).values
groups = experiment.digit_groups(data)
ranks = [
    [moment.rank for moment in experiment.cloud_moments(small.log.isel(run=i))[2:]]
    for i in range(len(settings.seeds))
]
ledger.check("stepwise.mlp-cloud", np.array(ranks), at_paper_scale=False)
show(
    networks.clouds(embeddings, [f"{moment.learned} learned" for moment in moments[1:]], groups),
    name="stepwise-mlp-clouds",
    source="Blog post, animated figure",
    caption="Embeddings in the middle of successive plateaus. Zeros are indigo, fours rust, sixes green, other digits grey.",
)

# %% [markdown]
# ### The hidden layer steps, too
#
# The hidden units start as random features of the input, not at zero. On top of that background their covariance grows a
# new large eigenvalue whenever the embedding does. Look at the dotted lines, which are the half times of the embedding,
# through the upper panel. (The rise before the first of them is the mean embedding's, which a covariance does not see.)

# %%
halves = [networks.half_times(small.log.isel(run=i), "covariance") for i in range(len(settings.seeds))]
inside = [experiment.hidden_half_times(small.log.isel(run=i)) for i in range(len(settings.seeds))]
ledger.check("stepwise.mlp-hidden", claims.Hidden(np.array(halves), np.array(inside)), at_paper_scale=False)
show(
    networks.hidden([Panel(run, "covariance", "Where the embedding steps, so do the hidden units")]),
    name="stepwise-mlp-hidden",
    source="Hidden representations figure",
    caption="Largest eigenvalues of the covariance of the 256 hidden units, and those of the embedding. The embedding's last "
    "eigenvalue stays small: one of its eight dimensions holds the mean.",
)

# %% [markdown]
# ## Three losses, many starts
#
# The other losses need care if they are to start small.
#
# - **VICReg** does not restrain the mean embedding, so centred matrices are the ones to look at. We weigh invariance,
#   variance and covariance by 1, 1 and 0.2.
# - **SimCLR** compares directions, $\cos(f(x),f(x'))/T$, and a direction does not become small when weights do: there is no
#   small-initialisation limit. A *head bias* $b\sim\mathcal N(0,I)$ supplies one. With $f(x)=b+\text{small}$ all images start in the
#   same direction, and differences grow from there at a rate of order $1/(T|b|^2)$.
#
# In code; where no logit can be large, `_without_shift` has the same value as the lines below it and takes less time:

# %% tags=["remove-input"]
source(ssl_losses.VICRegLoss._value, ssl_losses.NTXentLoss._value, ssl_losses._of_partners)

# %% [markdown]
# Each loss has its own learning rate. One call trains all of these runs together: Barlow Twins at the larger scales, VICReg
# and SimCLR at the smallest and the ordinary one, all seeds. Look for drops of the loss and eigenvalues that belong together.

# %%
ensemble = experiment.ensemble(settings)
smallest = settings.smallest
right = {
    "VICReg": experiment.runs_of(ensemble.log, loss="vicreg", scale=smallest),
    "SimCLR": experiment.runs_of(ensemble.log, loss="ntxent", scale=smallest),
}
steps = {name: experiment.measure_steps(runs) for name, runs in right.items()}

# %% tags=["hide-input"]
ledger.check("stepwise.mlp-vicreg", steps["VICReg"], at_paper_scale=False)
ledger.check("stepwise.mlp-simclr", steps["SimCLR"], at_paper_scale=False)
both = pd.concat([table, steps["SimCLR"]])
ledger.check("stepwise.mlp-one-dimension", both, at_paper_scale=False)
columns = [
    Panel(run),
    Panel(right["VICReg"].isel(run=0), "covariance"),
    Panel(right["SimCLR"].isel(run=0), "covariance", window=(3, 30)),
]
show(
    networks.staircase(columns),
    name="stepwise-mlp-losses",
    source="Shallow MLP, SimCLR and VICReg figures",
    caption="Loss and eigenvalues from a small start: of $C$ for Barlow Twins, of the covariance of the embeddings for the "
    "others. Dotted: half times.",
)

# %% [markdown]
# VICReg's curves are no logistic functions: once a variance exceeds $\varepsilon=10^{-4}$, its hinge pulls with constant
# force. SimCLR's loss does not end at 0, and its eigenvalues never settle: after a jump they drift on. How clean its steps are
# depends on the length of the head bias that was drawn: a short bias is a large start. Put 3 or 4 into `seeds` for examples.
#
# ## How small is small
#
# Two numbers tell how clean steps are. Plateau $k$ is *clean* if at some time eigenvalue $k$ is above half of its final
# value and eigenvalue $k+1$ below a tenth. The *half separation* is the height of eigenvalue $k+1$ (relative to its end)
# when eigenvalue $k$ is half way; we take the median over $k$. It is near 0 for separate steps and 1/2 for simultaneous
# ones. Look for a trend without exception; circles are an earlier run of ours with other random numbers.

# %%
barlow = experiment.runs_of(ensemble.log, loss="barlow_twins_theory")
sweep = experiment.measure_steps(barlow)
sweep = sweep.merge(table, how="outer")
ledger.check("stepwise.mlp-init-scale", sweep, at_paper_scale=False)
show(
    figures.scale_sweep(sweep, published.scale_sweep()),
    name="stepwise-mlp-scales",
    caption="Barlow Twins: clean plateaus and median half separation by the scale of the initialisation, each dot one seed, "
    "lines their mean; grey circles: earlier runs.",
)

# %% [markdown]
# ### Explorer: the scale makes the staircase
#
# Move the scale with the step at about 95, then the step at either end of the scale.

# %%
chosen = {
    scale: experiment.runs_of(
        small.log if scale == smallest else barlow, scale=scale, seed=settings.seeds[0]
    ).isel(run=0)
    for scale in settings.scales
}
kept = [step for step in settings.explorer_steps if step in run.snapshot and step in barlow.snapshot]
scores = {
    scale: networks.principal_components(one.embedding.sel(snapshot=kept).values)
    for scale, one in chosen.items()
}
reach = max(networks.cloud_reach(score[-1]) for score in scores.values())

# %% tags=["hide-input"]
explore(
    lambda scale, step: figures.explorer_frame(
        chosen[scale], scores[scale][kept.index(step)], reach, groups, step
    ),
    {"scale": settings.scales, "step": kept},
    name="stepwise-mlp-explorer",
    labels={"scale": "scale $\\alpha$ of the initialisation"},
    start={"scale": smallest, "step": min(kept, key=lambda step: abs(step - 95))},
    source="Blog post, animated figure",
    caption="Loss, eigenvalues of $C$ and the three-component cloud of one network. At $\\alpha=1$ the cloud is a ball from the "
    "beginning, and only the last eigenvalues have something to climb. At $\\alpha=0.1$ it shrinks to a point, then grows "
    "into a line, a plane, a body, while the loss goes down the stairs. Each scale has a learning rate of its own: compare "
    "shapes, not steps.",
)

# %% [markdown]
# ### Regular initialisation
#
# At $\alpha=1$ many modes are there before training: random features are an embedding already. The paper's statement is that
# the steps overlap but can be seen. Look at the lower panels of Barlow Twins and VICReg: what has to rise still does so one curve
# after the other. With SimCLR we see no order.

# %%
regular = experiment.runs_of(ensemble.log, scale=max(settings.scales))
first = [
    experiment.runs_of(regular, loss=name).isel(run=0) for name in ("barlow_twins_theory", "vicreg", "ntxent")
]
ledger.check("stepwise.mlp-regular-init", sweep[sweep["scale"] == max(settings.scales)], at_paper_scale=False)
show(
    networks.staircase([Panel(first[0]), Panel(first[1], "covariance"), Panel(first[2], "covariance")]),
    name="stepwise-mlp-regular",
    source="Regular initialisation figures",
    caption="The three losses at $\\alpha=1$. Each has a learning rate of its own, smaller than before, because the tangent "
    "kernel of a large network is large. The first step, in which the mean embedding shrinks, lies left of the axis.",
)

# %% [markdown]
# The paper also shows histograms of the logarithms of the eigenvalues. From a small start they are bimodal: learned, or not
# yet. Read each column downwards: eigenvalues hop from the left heap to the right one. At ordinary initialisation there is
# one broad heap.

# %% tags=["hide-input"]
gaps = {
    scale: experiment.middle_gap(small.log if scale == smallest else barlow, scale)
    for scale in settings.scales
}
ledger.check("stepwise.mlp-bimodal", experiment.as_series(gaps), at_paper_scale=False)
columns = {
    f"$\\alpha={smallest:g}$": small.log,
    "$\\alpha=1$": experiment.runs_of(regular, loss="barlow_twins_theory"),
    "VICReg, $\\alpha=1$": experiment.runs_of(regular, loss="vicreg"),
    "SimCLR, $\\alpha=1$": experiment.runs_of(regular, loss="ntxent"),
}
kinds = dict(zip(columns, ("correlation", "correlation", "covariance", "covariance"), strict=True))
show(
    networks.eigenvalue_histograms(columns, [5, 40, 95, 160, 300], kinds),
    name="stepwise-mlp-histograms",
    source="Histograms of log eigenvalues",
    caption="Eigenvalues of all seeds at five steps; the two columns on the left are Barlow Twins.",
)

# %% [markdown]
# ### Two knobs
#
# In the linear model the scale delays a step by $\log(1/\alpha)/4\gamma$. With two layers there are two scales. A small head
# alone leaves the exponential growth as it is. If *all* layers are small, each holds up the other: the leading term of the
# loss is of fourth order in the weights, and the wait is a power law,
#
# $$
# \begin{aligned}
# T_\text{head}&\sim\log(1/\alpha_\text{head}),\\
# T_\text{all}&\sim\alpha^{-2}.
# \end{aligned}
# $$ (eq-stepwise-mlp-clocks)
#
# This is why a hundredfold smaller network seems not to train at all. Dashed: the two laws.

# %%
clocks = experiment.two_clocks(settings)
ledger.check("stepwise.mlp-two-clocks", clocks, at_paper_scale=False)
show(
    figures.clocks(clocks),
    name="stepwise-mlp-clocks",
    caption="Effective half time of the first mode, Barlow Twins. Left: the head alone starts small, linear axis. Right: all "
    "layers do, logarithmic axis.",
)

# %% [markdown]
# ## Configurations that do not work, and why
#
# Seven runs, one program. One of them diverges, which ends that run and leaves the others alone.
#
# **SimCLR without a head bias, and with raw inner products.** Without the bias the directions are spread over all dimensions
# from the first step on: no collapse to a point, no steps. With inner products in place of cosines (InfoNCE
# {cite:p}`oord2018cpc`) a small start is a point. But nothing stops a dimension from growing, so that none is ever
# "finished": all grow together, and go on growing.

# %%
wrong = experiment.wrong_configurations(settings)
measured = experiment.measure_steps(wrong).set_index(wrong["run"].values)
simclr, vicreg = steps["SimCLR"].iloc[0], steps["VICReg"].iloc[0]

# %% tags=["hide-input"]
ledger.check(
    "stepwise.mlp-no-head-bias", claims.Pair(simclr, measured.loc["no head bias"]), at_paper_scale=False
)
ledger.check(
    "stepwise.mlp-inner-product", claims.Pair(simclr, measured.loc["inner product"]), at_paper_scale=False
)
columns = [
    Panel(right["SimCLR"].isel(run=0), "covariance", "With head bias"),
    Panel(wrong.sel(run="no head bias"), "covariance", "Without"),
    Panel(wrong.sel(run="inner product"), "covariance", "Inner products"),
]
show(
    networks.staircase(columns),
    name="stepwise-mlp-wrong-simclr",
    caption="SimCLR as it should be (left), without a head bias (middle), with inner products instead of cosines (right).",
)

# %%
ranks = {
    "with head bias": right["SimCLR"].isel(run=0),
    "without": wrong.sel(run="no head bias"),
    "inner products": wrong.sel(run="inner product"),
}
fig = networks.participation_ratios(ranks)
lowest = [f"{networks.participation(one).min():.1f}" for one in ranks.values()]
fig.axes[0].set_title(f"Lowest rank: {', '.join(lowest)}")
label_lines(fig.axes[0])
show(
    fig,
    name="stepwise-mlp-wrong-ranks",
    caption="Participation ratio of the embeddings of the same three runs. A start from one point looks like a deep minimum.",
)

# %% [markdown]
# **VICReg with its customary weights** 25/25/1. With so small a weight of the covariance term, decorrelating the last
# coordinates is slow compared with the growth of their variance. Look at the last eigenvalue, and multiply the time on the right
# by 25, the weight of the variance: it comes several times later.

# %%
ledger.check(
    "stepwise.mlp-vicreg-weights", claims.Pair(vicreg, measured.loc["25/25/1"]), at_paper_scale=False
)
columns = [
    Panel(right["VICReg"].isel(run=0), "covariance", "Weights 1/1/0.2"),
    Panel(wrong.sel(run="25/25/1"), "covariance", "Weights 25/25/1"),
]
show(
    networks.staircase(columns),
    name="stepwise-mlp-wrong-vicreg",
    caption="VICReg from a small start with two sets of weights; learning rates 0.1 (left) and 0.01 (right).",
)

# %% [markdown]
# **Barlow Twins as published** divides each output by its standard deviation over the batch:

# %% tags=["remove-input"]
source(ssl_losses.BarlowTwinsLoss._value)

# %% [markdown]
# Multiply all weights by $\alpha$
# and the learning rate by $\alpha^2$, and the run is the same run: the scale of the initialisation has no effect.
# The loss of the theory has no such symmetry.

# %%
standard = {"$\\alpha=1$": wrong.sel(run="standard 1"), "$\\alpha=0.1$": wrong.sel(run="standard 0.1")}
theory = {"$\\alpha=1$": first[0], f"$\\alpha={smallest:g}$": run}
pair = claims.ScaleFree(experiment.same_steps(standard), experiment.same_steps(theory))
ledger.check("stepwise.mlp-scale-free", pair, at_paper_scale=True)
show(
    figures.scale_free(theory, standard),
    name="stepwise-mlp-scale-free",
    caption="Loss relative to its start at two scales of the initialisation. Left: the loss of the theory. Right: the standard "
    "one, with a negligible $\\varepsilon$ in its denominator; two curves, one on the other.",
)

# %% [markdown]
# **A small start does not permit a large rate.** A tiny network is flat, and one may be tempted to walk faster. The bound on
# the rate comes from further down the path, where the weights have grown and the tangent kernel with them.

# %%
slow, fast = wrong.sel(run="smaller"), wrong.sel(run="too fast")
found = claims.Divergence(str(fast.status_sentence.item()), float(fast.loss[-1]), float(slow.loss[-1]))
ledger.check("stepwise.mlp-divergence", found, at_paper_scale=False)
show(
    figures.divergence(slow, fast),
    name="stepwise-mlp-divergence",
    caption="Barlow Twins at $\\alpha=0.05$ with two learning rates, in the same ensemble.",
)

# %% [markdown]
# ## Fresh noise and mini-batches
#
# So far a run saw the same pairs at every step. Now each step sees other digits with new noise, and the spectra are logged on
# the old, fixed pairs. Look at the right end of the lower panels: the steps are the same, but the eigenvalues spread about 1.
# The network now whitens the distribution, not these pairs, and the loss stays above 0 because $C$ of a small batch fluctuates.

# %%
fresh = experiment.fresh_noise(settings).log.isel(run=0)
both = [networks.half_times(one, "correlation") for one in (run, fresh)]
noise = claims.Noise(*both, fresh.correlation_eigenvalues.values[-1])
ledger.check("stepwise.mlp-fresh-noise", noise, at_paper_scale=False)
show(
    networks.staircase([Panel(run, title="Fixed pairs"), Panel(fresh, title="Fresh noise, mini-batches")]),
    name="stepwise-mlp-fresh",
    caption="Left: 100 fixed pairs. Right: mini-batches from all 1,797 digits, noise drawn at every step; eigenvalues of $C$ on "
    "the fixed pairs, loss on the batch.",
)

# %% [markdown]
# ## The paper's shallow network
#
# The paper's own small experiment: one hidden layer, a fixed batch of 50 randomly cropped images, full-batch descent for 7000
# steps. Width, learning rate, dimension and crop size are not known; ours are 512, $3\cdot10^{-4}$, 10 and $20\times20$ pixels, on
# crops of photographs. It starts from PyTorch's default initialisation. It takes steps even so, because the spectrum
# of natural images is steep. The time axis spans three decades: look at how evenly the steps fill them.

# %%
shallow = experiment.paper_style(settings).log.isel(run=0)
ledger.check("stepwise.mlp-paper-style", shallow, at_paper_scale=settings.is_published_mlp)
show(
    networks.staircase([Panel(shallow, title="Ten outputs, ordinary initialisation")], width=5.6),
    name="stepwise-mlp-paper",
    source="Shallow MLP figure",
    caption="Loss and eigenvalues of $C$ of the paper-style network on 50 pairs of crops. Dotted: half times.",
)

# %% [markdown]
# ## Does the tangent kernel know what was learned?
#
# Kernel theory ([Kernels and wide networks](stepwise_kernel.py)) says which embeddings a kernel machine learns from a small start. Take the
# network's tangent kernel {cite:p}`jacot2018ntk` on all $2n$ views *after* training, $\tilde K$, predict the embeddings with
#
# $$
# F_\text{th}=\operatorname{diag}(\gamma)^{-1/2}B^\top\tilde K^{1/2},
# $$ (eq-stepwise-mlp-prediction)
#
# where $\gamma$ and $B$ are the top eigenpairs of $K_\Gamma$, and compare row spaces: $a=\operatorname{tr}(P_\text{exp}P_\text{th})/d$. Random
# subspaces have $d/2n$. Diamonds are the paper's, for ResNet-50 on STL-10; look at the order of the losses.

# %%
trainings = [small, ensemble]
alignments = experiment.alignments(settings, trainings)
for claim in ("chance", "high", "order", "initial"):
    ledger.check(f"stepwise.mlp-ntk-{claim}", alignments, at_paper_scale=False)
show(
    figures.alignments(alignments, published.alignment_table()),
    name="stepwise-mlp-alignment",
    source="Table of NTK-predicted embeddings",
    caption="Alignment of learned and predicted embeddings. Filled: kernel after training, one dot for each seed; white: the "
    "same with each view centred; squares: kernel at initialisation. Diamonds: the paper's networks.",
)

# %% tags=["hide-input"]
summary = experiment.alignment_summary(alignments, published.alignment_table())
frame_html(summary, formats=dict.fromkeys(summary.columns[1:], "{:.3f}"), label="Alignments")

# %% [markdown]
# SimCLR comes last, as in the paper, but here by far. A low temperature rewards telling single images apart, which no
# low-dimensional eigenspace does (exercise 1). The blog adds that embeddings of different methods resemble each other. On
# the same pairs, centred:

# %%
cross = experiment.cross_alignments(settings, trainings)
ledger.check("stepwise.mlp-cross-method", cross, at_paper_scale=False)
frame_html(
    cross.rename(index=networks.LOSS_NAMES, columns=networks.LOSS_NAMES)
    .rename_axis("alignment of")
    .reset_index(),
    formats={networks.LOSS_NAMES[name]: "{:.2f}" for name in cross.columns},
    label="Alignment of embeddings of different losses",
)

# %% [markdown]
# ## Where the story stops
#
# - Nothing here says *which* modes a network learns first. For a linear model they are the top eigenvectors of $\Gamma$; a
#   network's kernel moves while it learns (it predicts better after training than before), and no theory says where to.
# - The spacing of the steps follows the seed, because the eigenvalues of $\Gamma$ are close. For photographs, whose spectrum is
#   steep, see [A ResNet takes the steps](stepwise_resnet.py).
# - The smallest scale that can be afforded is set by {eq}`eq-stepwise-mlp-clocks`. Set `layer_scales` to go further, or start
#   only the head small.
# - Later work with the first author describes the escape from small initialisation for supervised two-layer networks as a
#   sequence of such steps {cite:p}`kunin2025alternating`, and finds the same steps in word embeddings
#   {cite:p}`karkada2025word2vec`.
# - Steps need no meaning: with shuffled partners a network steps, too ([Where the story goes on](stepwise_beyond.py)).
#
# ## Exercises
#
# Each changes one parameter.
#
# **1.** SimCLR's temperature is 0.2. With 1.0, does the tangent kernel predict its embeddings better?

# %% tags=["hide-cell"]
warm = experiment.warmer_simclr(settings, temperature=1.0)
cold = alignments.query("loss == 'ntxent'")["raw"].iloc[0]
Markdown(
    f"The alignment is {warm:.2f} at temperature 1 and {cold:.2f} at 0.2. At high temperature the loss is nearly quadratic "
    "in the similarities, and its optimum nearly a spectral one."
)

# %% [markdown]
# **2.** Double the noise, `noise_sd` = 0.3. $\Gamma$ holds no noise on average, since that of the two views is independent. Do the
# steps come at the same times?

# %% tags=["hide-cell"]
noisy = experiment.small_start(settings, noise_sd=0.3, steps=settings.exercise_steps, seed=settings.seeds[:1])
times = [np.sort(networks.half_times(one, "correlation")) for one in (run, noisy.log.isel(run=0))]
Markdown(
    f"Half times {', '.join(f'{t:g}' for t in times[1])} with noise 0.3, and {', '.join(f'{t:g}' for t in times[0])} with "
    f"{settings.noise_sd:g}. The half time of mode {len(times[0])} changes by a factor of {times[1][-1] / times[0][-1]:.2f}."
)

# %% [markdown]
# **3.** Set the last of `scale_rates` to 0.06. What becomes of the eigenvalues that have been learned?

# %% tags=["hide-cell"]
edge = experiment.small_start(
    settings, learning_rate=0.06, steps=settings.exercise_steps, seed=settings.seeds[:1]
).log.isel(run=0)
late = [
    one.correlation_eigenvalues.sel(step=slice(settings.exercise_steps // 2, None)) for one in (run, edge)
]
calm, restless = (f"{float(part.min()):.2f} and {float(part.max()):.2f}" for part in late)
last = [float(np.nanmax(networks.half_times(one, "correlation")) * one.learning_rate) for one in (run, edge)]
Markdown(
    f"Later than step {settings.exercise_steps // 2} they lie between {restless}; with rate {settings.smallest_rate:g} "
    f"between {calm}. They zigzag about 1 from step to step: the rate is at the edge of what the tangent kernel of the "
    f"*trained* network permits. The last effective half time is {last[1]:.2f}, instead of {last[0]:.2f}."
)

# %% [markdown]
# ## Claims

# %%
ledger
