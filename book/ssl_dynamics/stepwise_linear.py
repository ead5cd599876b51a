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
# # Exactly solvable self-supervised learning
#
# **What the paper claims.** Take a linear model and a loss in the style of Barlow Twins, start from small weights, and the
# whole of training can be written down {cite:p}`simon2023stepwise`. Each dimension of the embedding belongs to one eigenvector
# of the cross-covariance of the two views. It is learned along a logistic curve, at a time that its eigenvalue and its
# start decide, and the loss drops by one. What is learned in the end is the smallest weight matrix that solves the task.
#
# **What you will see.** A staircase from two modes and no training at all; each formula against the equation it solves; the
# paper's linear experiment on crops of photographs, theory drawn on top; and the places where the theory is not enough:
# finite learning rates, eigenvalues that nearly coincide, embeddings with too many dimensions.

# %% tags=["parameters"]
images = "photos"  # or "cifar10", as published
directory = ""  # where the CIFAR-10 archive lies; empty: download it
standardise = "channel"  # of the images; or "global", "none": the paper's choice is not known
downscale = 4  # photographs are averaged down by this
pairs = 500  # n
patch = 32  # pixels: a view is a random crop of a patch
crop = 20  # pixels: m is three times its square
dimensions = 10  # d
init_scale = 1e-7  # alpha: W(0) is alpha N(0, 1)
tiny_scale = 1e-20  # to see the limit of small starts
stability_fraction = 0.25  # learning rate over the bound 1 / (4 gamma_1)
data_seeds = [0, 1]
seeds = [0, 1]  # of W(0)
delay_fractions = [0.05, 0.1, 0.25, 0.5]  # learning rates for the discrete correction
law_scales = [1e-4, 1e-6, 1e-8, 1e-10]
law_seeds = 3
degenerate_seeds = 16
competitors = 2000  # random zero-loss solutions
starts = 2000  # random starts for E s_j(0)^2
explorer_scales = [1e-1, 1e-2, 1e-4, 1e-6, 1e-8, 1e-10]
explorer_gaps = [0.4, 0.7, 0.9, 0.98]
explorer_seeds = [0, 1, 2, 3, 4, 5]
explorer_dimensions = [2, 3]
device = "cpu"
progress = True  # bars while training

# %% tags=["hide-input"]
import torch
from IPython.display import Markdown

from learndyn.core.claims import Ledger
from learndyn.core.explorer import explore, format_value
from learndyn.core.plotting import show, use_style
from learndyn.core.source import source
from learndyn.core.tables import frame_html
from learndyn.ssl_dynamics.stepwise import experiments_linear as experiments
from learndyn.ssl_dynamics.stepwise import figures_linear as figures
from learndyn.ssl_dynamics.stepwise import linear, published
from learndyn.ssl_dynamics.stepwise import settings_linear as experiment
from learndyn.ssl_dynamics.stepwise.claims import linear as claims

use_style()
settings = experiment.Linear.from_notebook(globals())
paper = settings.is_published_setup
ledger = Ledger("ssl_dynamics", "stepwise_linear", claims.CLAIMS)

# %% [markdown]
# ## The smallest staircase
#
# Two dimensions, two modes, no training: each eigenvalue $\lambda_j$ of the embeddings' cross-correlation goes from almost 0 to 1
# along a logistic curve, $\lambda_j(t)=1/\bigl(1+(1/\lambda_j(0)-1)\,e^{-8\gamma_jt}\bigr)$, and the loss is
# $\sum_j(1-\lambda_j)^2$. Look at how the loss changes from a slide into two steps as the start shrinks.

# %%
show(
    figures.two_modes(gamma=(1.0, 0.15), scales=(1e-1, 1e-3, 1e-6)),
    name="stepwise-two-modes",
    caption="Loss (above) and eigenvalues of $C$ (below) in closed form, from starts $s_j(0)$ of three sizes (colours). The "
    "plateau at 1 lasts from the first rise to the second.",
)

# %% [markdown]
# The rest of the page says where this curve comes from and how much of it survives in training.
#
# ## The setting
#
# A pair $(x_i,x_i')$ is two views of one image. Here a view is a random crop of a random patch of a photograph, drawn once
# and kept.

# %%
pairs_0 = experiment.input_pairs(settings, settings.data_seeds[0])
show(figures.views(pairs_0), name="stepwise-views", caption="The first pairs, contrast stretched.")

# %% [markdown]
# The model is $f(x)=Wx$ with $W\in\mathbb R^{d\times m}$. Of the data only one matrix matters, the cross-covariance of the views
#
# $$
# \Gamma=\frac1{2n}\sum_{i=1}^n\bigl(x_i^{}x_i'^\top+x_i'x_i^\top\bigr),
# $$ (eq-stepwise-linear-gamma)
#
# because the cross-correlation of the embeddings, defined in the same way with $f(x_i)$ in the place of $x_i$, is
# $C=W\Gamma W^\top$. The loss compares it with the identity:
#
# $$
# \mathcal L=\lVert C-I\rVert_F^2 .
# $$ (eq-stepwise-linear-loss)
#
# $\Gamma$ is symmetric but not positive semi-definite: along some directions two crops disagree, and the eigenvalue is
# negative. So its eigenvalues $\gamma_1\ge\gamma_2\ge\dots$ are sorted with their sign, never by size, and there is no
# $\Gamma^{1/2}$. The eigenvectors are $v_1,v_2,\dots$ Gradient flow is
#
# $$
# \begin{aligned}
# \dot W&=-\nabla\mathcal L\\
# &=-4\,(W\Gamma W^\top-I)\,W\Gamma .
# \end{aligned}
# $$ (eq-stepwise-linear-flow)
#
# Check: central differences of the loss, computed from views and embeddings, against {eq}`eq-stepwise-linear-flow`, computed
# from $\Gamma$.

# %%
gap = experiments.gradient_check()
ledger.check("stepwise.gradient", gap, at_paper_scale=True)
modes_0 = linear.feature_modes(*pairs_0.evaluation())
Markdown(
    f"Largest relative gap {gap:.0e}. {pairs_0.pairs} pairs leave at most {len(modes_0.eigenvalues)} eigenvalues that are not "
    f"zero. {linear.positive_modes(modes_0.eigenvalues)} are positive; "
    f"$\\gamma_1={float(modes_0.eigenvalues[0]):.0f}$, $\\gamma_{{{settings.dimensions}}}="
    f"{float(modes_0.eigenvalues[settings.dimensions - 1]):.2f}$."
)

# %% [markdown]
# ## Why a small start waits
#
# At $W=0$ the gradient vanishes. That is not so in linear regression: there a singular value slides down a parabola to its
# one goal $s^*$, wherever it starts. Here $s=0$ is the ridge between two valleys, and training must break a symmetry. The
# slides write this as
#
# $$
# \begin{aligned}
# \text{supervised:}\quad \dot s&=\gamma\,(s^*-s),\\
# \text{self-supervised:}\quad \dot s&=\gamma\,s\,(1-s^2).
# \end{aligned}
# $$ (eq-stepwise-linear-wells)
#
# Both are $\dot s=-V'(s)$, with the potentials $V=\gamma(s^*-s)^2/2$ and $V=\gamma(s^4/4-s^2/2)$. These are rescaled units: their
# $s$ is $\sqrt{\gamma_j}\,s_j$, and their clock runs four times as fast. In true units the second line is
# $\dot s_j=4\gamma_js_j(1-\gamma_js_j^2)$. Look below at when the curves leave 0, and at where those go that start below it.

# %%
wells = experiments.symmetry_breaking()
ledger.check("stepwise.symmetry", wells, at_paper_scale=True)
show(
    figures.symmetry(wells),
    name="stepwise-potentials",
    source="slides",
    caption="Above: potentials ($\\gamma=s^*=1$), with arrows along the flow. Below: starts of size 0.01 (which leave first) and "
    "0.000001, either sign, integrated. Supervised curves lie on each other.",
)

# %% [markdown]
# ## Proposition 4.1: the trajectory
#
# Write $\Gamma^{(\le d)}$ for the $d\times m$ matrix whose rows are $v_1^\top,\dots,v_d^\top$. Let the start be *aligned*,
# $W(0)=U\,\mathrm{diag}(s_j(0))\,\Gamma^{(\le d)}$ with any orthogonal $U$, all $s_j(0)>0$. Then the modes never mix,
# $W(t)=U\,\mathrm{diag}(s_j(t))\,\Gamma^{(\le d)}$, and the paper's equation 10 gives
#
# $$
# s_j(t)=\frac{e^{4\gamma_jt}}{\sqrt{s_j(0)^{-2}+(e^{8\gamma_jt}-1)\,\gamma_j}} .
# $$ (eq-stepwise-linear-eq10)
#
# Do not type this into a program. It exceeds float64 once $8\gamma_jt>709$, inside the range of the paper's own Figure 1
# ($\gamma_1\approx390$, $t$ up to 0.38). Dividing through by $e^{4\gamma_jt}$ cures it:
#
# $$
# s_j(t)^{-2}=\gamma_j+\bigl(s_j(0)^{-2}-\gamma_j\bigr)e^{-8\gamma_jt},
# $$ (eq-stepwise-linear-stable)
#
# which also serves modes with $\gamma_j<0$; they decay. In code, with $\gamma_j$ in `eigenvalues` and $s_j(0)$ in `start`:

# %% tags=["remove-input"]
source(linear.singular_values)

# %% [markdown]
# Look at the last two rows: first the printed form returns a wrong number without a warning, then none.

# %%
table = experiments.overflow_table()
ledger.check("stepwise.overflow", table, at_paper_scale=True)
frame_html(
    table,
    {"t": "t", "exponent": "8γt", "printed": "eq. 10 as printed", "ours": "rearranged"},
    formats={"exponent": "{:.0f}", "printed": "{:.5f}", "ours": "{:.5f}"},
    label="Two forms of eq. 10",
)

# %% [markdown]
# Now against the matrix equation {eq}`eq-stepwise-linear-flow` itself: 12 inputs, 4 dimensions, eigenvalues of both signs, random
# bases, unequal starts. Solid curves are integrated, dashed ones come from {eq}`eq-stepwise-linear-stable`.

# %%
flow = experiments.matrix_flow()
ledger.check("stepwise.eq10", flow, at_paper_scale=True)
show(
    figures.closed_form(flow),
    name="stepwise-closed-form",
    source="Prop. 4.1, eq. 10",
    caption="Eigenvalues $\\lambda_j=\\gamma_js_j^2$ of $C$: integrated (broad) and in closed form (dashed). Dotted: the critical times of "
    "the next section.",
)

# %% [markdown]
# ## Critical times
#
# In terms of $\lambda_j$ the solution is the logistic curve of the first figure. It crosses ½ at the critical time
#
# $$
# \tau_j=-\frac{\log\bigl(\gamma_j\,s_j(0)^2\bigr)}{8\gamma_j},
# $$ (eq-stepwise-linear-tau)
#
# and takes $\ln 9/(4\gamma_j)$ to go from 10 to 90 %. In code, with `first` for $\lambda_j(0)$; `growth_rates` are $8\gamma_j$ in the
# flow:

# %% tags=["remove-input"]
source(linear.critical_times)

# %% [markdown]
# Times and widths, read off the integrated flow:

# %%
shapes = experiments.step_shapes(flow)
ledger.check("stepwise.critical-times", shapes, at_paper_scale=True)
frame_html(
    shapes,
    {"mode": "mode", "critical": "τ_j", "half": "crosses ½", "width": "ln 9/(4γ_j)", "measured_width": "10–90 %"},
    formats=dict.fromkeys(("critical", "half", "width", "measured_width"), "{:.3f}"),
    label="Critical times and widths",
)

# %% [markdown]
# Relative to its time, a step is $2\ln 9/\ln\bigl(1/(\gamma_js_j(0)^2)\bigr)$ wide: on a logarithmic time axis steps sharpen only
# with the *logarithm* of the start. Look at how little the last decades of the start change.

# %%
show(
    figures.sharpening((1e-2, 1e-4, 1e-8, 1e-16)),
    name="stepwise-sharpening",
    source="after Prop. 4.1",
    caption="One mode on its own clock, closed form. The start is squared from one curve to the next; the width is only halved.",
)

# %% [markdown]
# **A trap.** Modes are learned in the order of $\tau_j$, not of $\gamma_j$: below, the smallest of three eigenvalues started larger and
# comes second. On the way it is overtaken by the fastest mode. What a program calls the first eigenvalue of $C$ belongs to
# one mode before that crossing and to another after it. Look at where the broad curves change from one dashed line to
# another. Whoever compares eigenvalues with theory must sort both.

# %%
show(
    figures.overtaking(experiments.overtaking()),
    name="stepwise-overtaking",
    caption="Broad: first (blue), second (amber) and third (green) eigenvalue of $C$, integrated. Dashed: $\\lambda_j(t)$ of each "
    "mode.",
)

# %% [markdown]
# ## Figure 1A,B: training
#
# The paper's linear experiment: $n=500$ images, two random crops of 20×20×3 each ($m=1200$), $d=10$, full-batch gradient
# descent from a small random start. (In the eigenbasis of $\Gamma$ a step is a scaling of columns and two small products.) The
# published images are CIFAR-10; the quick profile has patches of two photographs instead, which have a steeper spectrum. The
# loss should be a staircase with plateaus wherever two critical times are apart. Look below for where it has none.

# %%
runs = experiment.measure(settings)
first = runs[0].runs.isel(run=0)
ledger.check("stepwise.fig1-staircase", runs, at_paper_scale=paper)
ledger.check("stepwise.fig1-theory", runs, at_paper_scale=paper)
ledger.check("stepwise.fig1-alignment", runs, at_paper_scale=paper)
show(
    figures.staircase(first),
    name="stepwise-fig1",
    source="Figure 1A,B",
    caption="Solid: gradient descent from a random start. Dashed and dotted: logistic curves and critical times of the aligned "
    "start that matches it, at this learning rate (both explained below). Nothing is fitted.",
)

# %% [markdown]
# The published critical times were read off the figure (within 1.5 %), their eigenvalues inferred from a start of
# $s_j(0)^2\approx1.3\cdot10^{-13}$, itself read off within a factor 2. What can be compared with other data is the shape: all ten
# modes in order, the half time of each (when the $j$-th eigenvalue crosses ½) over its predicted time, plateaus where times are
# apart.

# %%
ledger_published = claims.decide_published(ledger, runs, paper)
frame_html(
    experiment.critical_time_table(runs),
    {
        "mode": "mode",
        "published": "published τ_j",
        "published_gamma": "implied γ_j",
        "gamma": "γ_j here",
        "critical": "τ_j here",
        "ratio": "half time / τ_j",
    },
    formats=dict.fromkeys(("published_gamma", "gamma"), "{:.1f}") | dict.fromkeys(("published", "critical", "ratio"), "{:.4f}"),
    label="Critical times, published and here",
)

# %% [markdown]
# The published staircase has its plateaus at 10, 9, 8, 6 and 5: its modes 3 and 4 fall almost together. Look at which steps
# of ours are long instead.

# %%
show(
    figures.beside_published(published.figure1(), first),
    name="stepwise-fig1-beside",
    source="Figure 1A",
    caption="Rust: the ideal staircase of the published critical times. Indigo: our training. Ticks: critical times.",
)

# %% [markdown]
# **How exact is the theory?** The ratio in the table compares with the critical times of *gradient descent* (next
# section). That formula takes all steps for steps of a small $\lambda_j$; the last few are not, which makes up the first mode's
# percent. Anything else must come from the start being random and not infinitely small; then it must vanish from a much smaller
# one. The claim on starts of $10^{-7}$ asks for 0.5 %, to which our earlier runs kept, the one on smaller starts for the same.

# %%
tiny = experiment.measure(settings, init_scale=settings.tiny_scale)
ledger.check("stepwise.fig1-window", runs, at_paper_scale=paper)
ledger.check("stepwise.fig1-limit", tiny, at_paper_scale=paper)
gaps = [100 * claims.time_gaps(found)[:, 1:] for found in (runs, tiny)]
Markdown(
    f"Modes 2 to {settings.dimensions}, all {len(gaps[0])} runs: half times are within {gaps[0].max():.2f} % of their predictions "
    f"from starts of {format_value(settings.init_scale)} ({int((gaps[0] > 0.5).sum())} of {gaps[0].size} are more than 0.5 % off), "
    f"within {gaps[1].max():.3f} % from {format_value(settings.tiny_scale)}."
)

# %% [markdown]
# Those that are further off have a close neighbour, such as modes 6 and 7 in the table: a random start mixes them. More of that
# below.
#
# ### The cloud
#
# What the embeddings do meanwhile. Each panel shows all views at the middle of a plateau, on the same axes. Look at the number of
# directions the cloud has.

# %%
clouds = experiment.clouds(settings, runs[0])
ledger.check("stepwise.clouds", clouds, at_paper_scale=paper)
show(
    figures.clouds(clouds),
    name="stepwise-clouds",
    source="blog post, animated figure",
    caption="Embeddings of both views, centred, on the three leading principal axes of the last panel. Colour: the vertical axis.",
)

# %% [markdown]
# ## Finite learning rates
#
# Gradient descent with learning rate $\eta$ multiplies a small $s_j$ by $1+4\gamma_j\eta$ per step, the flow by
# $e^{4\gamma_j\eta}$. So
#
# $$
# \begin{aligned}
# \tau_j^{\mathrm{GD}}&=-\frac{\eta\,\log\bigl(\gamma_js_j(0)^2\bigr)}{2\log(1+4\gamma_j\eta)}\\
# &\approx(1+2\gamma_j\eta)\,\tau_j ,
# \end{aligned}
# $$ (eq-stepwise-linear-gd)
#
# and the modes that learn fastest are the ones that are delayed. In code only the rate of growth is another:

# %% tags=["remove-input"]
source(linear.growth_rates)

# %% [markdown]
# Look at mode 1; at large rates its last few steps, no longer small, make up for part of the delay.

# %%
delayed = experiments.delays(settings, modes_0)
ledger.check("stepwise.discrete-delay", delayed, at_paper_scale=True)
show(
    figures.delays(delayed),
    name="stepwise-delays",
    caption="Half times of gradient descent over the critical times of the flow. Dashed: $\\tau_j^{\\mathrm{GD}}/\\tau_j$.",
)

# %% [markdown]
# At the solution an entry $(i,j)$ of $C$ relaxes at the rate $4(\gamma_i+\gamma_j)$, at most $8\gamma_1$. Hence gradient descent
# settles if and only if $\eta<1/(4\gamma_1)$. Two runs, one on each side of the bound:

# %%
edge = experiments.stability(settings, modes_0)
ledger.check("stepwise.stability", edge.runs, at_paper_scale=True)
show(
    figures.stability(edge.runs),
    name="stepwise-stability",
    caption="One dimension, the same start, learning rates 1 % below and 1 % above the bound.",
)
last = edge.runs.correlation_eigenvalues[1, -2:, 0].values
Markdown(
    f"The library warned of the second: *{edge.sentence}.* It does not blow up either: so close above the bound, "
    f"$\\lambda_1$ ends jumping between {last.min():.3f} and {last.max():.3f}, one step up, one step down."
)

# %% [markdown]
# ## Random starts
#
# Nobody starts aligned. **Result 4.6**: a generic small start follows an aligned one. Let $A=W(0)\,[\Gamma^{(\le d)}]^\top$, and
#
# $$
# \begin{aligned}
# A&=QR,\quad R_{jj}>0,\\
# U&=Q,\quad s_j(0)=R_{jj} .
# \end{aligned}
# $$ (eq-stepwise-linear-qr)
#
# Mode 1 fixes its output direction; mode 2 keeps only what is orthogonal to it, and so on. In code, with $\Gamma^{(\le d)}$ in
# `vectors`; the signs make the diagonal of $R$ positive:

# %% tags=["remove-input"]
source(linear.match_start)

# %% [markdown]
# The dashed curves of Figure 1 used this match. Late modes have less left to start from: for $W(0)=\alpha\,\mathcal N(0,1)$, $\mathbb E\,s_j(0)^2=\alpha^2(d-j+1)$.

# %%
matched = experiments.start_statistics(settings)
ledger.check("stepwise.generic-starts", matched, at_paper_scale=True)
show(
    figures.matched_starts(matched),
    name="stepwise-starts",
    source="Result 4.6",
    caption="Mean over random starts, matched by QR. Dashed: $R_{jj}^2/\\alpha^2$ has a chi-square distribution with $d-j+1$ degrees of "
    "freedom.",
)

# %% [markdown]
# How small is small? We find that the distance between the end of training and the end of the matched trajectory falls as
#
# $$
# \begin{aligned}
# &\lVert W-W_{\mathrm{aligned}}\rVert_F\propto\alpha^{q},\\
# &q=\min_{1\le j\le d}\Bigl(1-\frac{\gamma_{j+1}}{\gamma_j}\Bigr),
# \end{aligned}
# $$ (eq-stepwise-linear-law)
#
# and the largest error that an eigenvalue of $C$ has on the way about as the square of that. (If $q$ comes from two modes that
# are both learned, slopes stay below $2q$ as a factor $\log\frac1\alpha$ would make them.) This law is ours, not the paper's.
# $j=d$ counts: the first mode that is *not* learned leaks in. A fifth of a power is little: look at how far the flat
# lines above still are from zero at the smallest start, and at how much lower those below have come.

# %%
law = experiments.error_law(settings)
slopes = experiments.slopes(law)
ledger.check("stepwise.error-law", (law, slopes), at_paper_scale=True)
show(
    figures.error_law(law, slopes, published.gap_exponent()),
    name="stepwise-error-law",
    caption="Integrated flow, $d=2$, median over starts (dots). Dashed: slopes $q$ (above) and $2q$ (below) through the last dot. "
    "Crosses: an earlier run of ours; another start shifts the line and keeps the slope.",
)

# %% [markdown]
# **Right times, wrong vectors.** So if $\gamma_{d+1}$ is close to $\gamma_d$, no practical start is small enough. Six
# dimensions, $\gamma_6/\gamma_7=1.03$, starts of $10^{-8}$. On the left is a start whose eigenvalues follow the theory. Look for the
# same start (indigo) on the right: what it has learned is a mixture of $v_6$ and $v_7$.

# %%
near, far = (experiments.degenerate_modes(settings, ratio) for ratio in (experiments.NEAR, experiments.FAR))
ledger.check("stepwise.degenerate", (near, far), at_paper_scale=True)
show(
    figures.degenerate(near),
    name="stepwise-degenerate",
    caption="Left: eigenvalues of $C$ of one start (colours) and theory (dashed). Right: alignment of the learned space with the top "
    "six modes, all starts; it is 5/6 if $v_6$ is missing.",
)

# %%
late = abs(experiment.half_times(near) / experiment.predicted_times(near) - 1)
Markdown(
    f"With $\\gamma_6/\\gamma_7={experiments.FAR:g}$ all {far.sizes['run']} starts end within "
    f"{float(1 - far.alignment[:, -1].min()):.0e} of alignment 1. With {experiments.NEAR:g}, the first five modes keep their times within "
    f"{100 * late[:, :-1].max():.1f} %. The sixth does so in most starts (median {100 * float(torch.tensor(late[:, -1]).median()):.1f} %), "
    f"but it can come {100 * late[:, -1].max():.0f} % off where $v_7$ had much the larger start and takes its place. Compare "
    "subspaces only where the spectrum has a gap."
)

# %% [markdown]
# ## Which solution?
#
# Infinitely many $W$ have zero loss. **Proposition 4.3**: those of least norm are exactly
# $W=U\,\mathrm{diag}(\gamma_j^{-1/2})\,\Gamma^{(\le d)}$, with
#
# $$
# \lVert W\rVert_F^2=\sum_{j\le d}1/\gamma_j ,
# $$ (eq-stepwise-linear-norm)
#
# and they are where a small start ends. Look for the trained runs, and for a competitor to their left.

# %%
norms = experiments.norm_check(settings)
ledger.check("stepwise.minimum-norm", norms, at_paper_scale=True)
show(
    figures.competitors(norms),
    name="stepwise-norms",
    source="Prop. 4.3",
    caption="Squared norms of random zero-loss solutions, half of which use negative modes too. Dashed: the minimum. Diamond: trained.",
)

# %% [markdown]
# **Too many dimensions.** If only $p<d$ eigenvalues of $\Gamma$ are positive, $C$ cannot become the identity. There are $p$ steps,
# and then the loss stays at $d-p$ for ever. The same three positive modes with an embedding of three dimensions, and with one of
# six:

# %%
floor = experiments.with_and_without_floor(settings)
ledger.check("stepwise.loss-floor", floor.runs, at_paper_scale=True)
show(
    figures.floor(floor.runs),
    name="stepwise-floor",
    caption="Three, and six, dimensions for three positive modes (and four negative ones). Both have three steps.",
)
Markdown(f"The library warned: *{floor.sentence}.*")

# %% [markdown]
# ## Two towers
#
# Two modalities, images $x_i$ and captions $y_i$ say, have a linear model each, $Wx$ and $Vy$, and
#
# $$
# \begin{aligned}
# \mathcal L&=\lVert W\Gamma V^\top-I\rVert_F^2,\\
# \Gamma&=\frac1n\sum_ix_iy_i^\top .
# \end{aligned}
# $$ (eq-stepwise-linear-towers)
#
# Singular vectors of $\Gamma$ take the place of eigenvectors, so nothing is negative any more. From equal aligned starts both
# towers follow {eq}`eq-stepwise-linear-stable` at half speed: each gets half of the gradient of a tied one.

# %%
towers = experiments.two_tower_flow()
ledger.check("stepwise.two-towers", towers, at_paper_scale=True)
show(
    figures.towers(towers),
    name="stepwise-towers",
    source="extension to two modalities",
    caption="Both flows integrated (solid), closed form (dashed), and one tower with the same eigenvalues and starts (dotted).",
)

# %% [markdown]
# ## Explorer: scale, gap, dimension
#
# Eigenvalues $\gamma_j=g^{\,j-1}$ with $d+1$ modes, one of which is not to be learned. Broad curves are trained from one random start,
# dashed ones are theory; the lowest panel has six starts.

# %%
movie = experiments.explorer_runs(settings)
explore(
    lambda scale, gap, dimension: figures.frame(movie, scale, gap, dimension),
    {
        "scale": settings.explorer_scales,
        "gap": settings.explorer_gaps,
        "dimension": settings.explorer_dimensions,
    },
    name="stepwise-linear-explorer",
    labels={"scale": "scale $\\alpha$", "gap": "ratio $g=\\gamma_{j+1}/\\gamma_j$", "dimension": "dimension $d$"},
    start={"scale": settings.explorer_scales[-2], "gap": settings.explorer_gaps[0]},
    caption="First move the scale: when does the loss become a staircase, and when do dashed and solid curves meet? Then move the "
    "ratio towards 1: smaller starts soon bring the eigenvalues back to the theory, but not the alignment with the top $d$ modes.",
)

# %% [markdown]
# ## Where the story stops
#
# - Everything is linear and the loss is not the one in use: the published Barlow Twins loss {cite:p}`zbontar2021barlow` divides by
#   batch standard deviations, and scaling down the output of a network does not change it. [Kernels and wide networks](stepwise_kernel.py) gives the
#   model nonlinear features, [A small network takes the steps](stepwise_mlp.py) and [A ResNet takes the steps](stepwise_resnet.py) train networks.
# - The published data are known in outline only. Which images, how standardised, which learning rate, which start: unknown. Inputs
#   of unit variance have $\sum_j\gamma_j\approx m=1200$ if the views agree; the ten eigenvalues that Figure 1 implies sum to 800, so
#   they were most likely standardised, and `standardise = "channel"` is our reading. `images = "cifar10"` runs the
#   published set-up as far as it is known.
# - $\alpha^q$ says when vectors can be trusted. Natural images have a few separate eigenvalues and then a crowd. Set `seeds` to
#   `list(range(12))`, or `dimensions` to 20, and see which of the claims on Figure 1 fail.
# - A product of $L$ layers, all started small, waits longer, as a power of $1/\alpha$ and not as its logarithm. For supervised deep
#   linear networks see {cite:t}`saxe2014exact`; the same picture for word embeddings is in {cite:t}`karkada2025word2vec`.
# - Can a different optimiser learn all modes at once, and should it? [Where the story goes on](stepwise_beyond.py) tries.
#
# ## Exercises
#
# Each changes one parameter and trains again.
#
# **1.** Set `init_scale` to 0.01. How much of the staircase is left, and how far off are the times?

# %% tags=["hide-cell"]
one = {"data_seeds": settings.data_seeds[:1], "seeds": settings.seeds[:1]}
coarse = experiment.measure(settings, init_scale=0.01, **one)
show(
    figures.staircase(coarse[0].runs.isel(run=0)),
    name="stepwise-exercise-scale",
    caption="From a start of 0.01: the first eigenvalues of $C$ are not small even at the beginning, and all curves blur.",
)
Markdown(
    f"Half times are off by up to {100 * claims.time_gaps(coarse).max():.0f} % (100 %: a mode that is above ½ from the beginning); the loss starts at "
    f"{float(coarse[0].runs.loss[0, 0]):.2f}, alignment ends at {float(coarse[0].runs.alignment[0, -1]):.2f}."
)

# %% [markdown]
# **2.** Set `patch` equal to `crop`, so that both views are the same picture. What becomes of the negative eigenvalues, and of the
# critical times?

# %% tags=["hide-cell"]
same = experiment.measure(settings, patch=settings.crop, **one)
negative = [int((e.modes.eigenvalues < -1e-9 * e.modes.eigenvalues[0]).sum()) for e in (runs[0], same[0])]
tau = [experiment.predicted_times(e.runs)[0] for e in (runs[0], same[0])]
Markdown(
    f"{negative[0]} negative eigenvalues become {negative[1]}: $\\Gamma$ is now the second moment of the crops, and the top spectral "
    f"solution is whitened PCA. The last mode comes at {tau[1][-1]:.2f} instead of {tau[0][-1]:.2f}: without two views that disagree "
    "nothing holds the finer modes back."
)

# %% [markdown]
# **3.** Set `standardise` to `"none"`. Which mode moves most?

# %% tags=["hide-cell"]
raw = experiment.measure(settings, standardise="none", **one)
values = [e.modes.eigenvalues[:4].tolist() for e in (runs[0], raw[0])]
Markdown(
    "The first four eigenvalues "
    + " become ".join(", ".join(f"{value:.3g}" for value in row) for row in values)
    + ". Pixels from 0 to 1 are smaller, so all times grow; but the mean colour, which standardising removes, now makes a "
    f"first mode {values[1][0] / values[1][1]:.0f} times the second (before: {values[0][0] / values[0][1]:.0f})."
)

# %% [markdown]
# ## Claims

# %%
ledger
