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
# # Kernels and wide networks
#
# **What the paper claims.** Nothing in [the linear model](stepwise_linear.py) needs the inputs to be inputs. Put a kernel's
# features in their place, and the whole theory can be written with the kernel matrix of the $2n$ views alone: the
# eigenvalues of one matrix, the contrastive kernel $K_\Gamma$, say what is learned and when. With the tangent kernel of a
# wide network this becomes a prediction for that network {cite:p}`simon2023stepwise`. The paper's moral: kernel PCA is to
# self-supervised learning what kernel regression is to supervised learning.
#
# **What you will see.** Functions in the plane, learned one at a time; each statement of Proposition 5.1 checked against
# gradient flow; the staircase of a kernel machine on photographs; where the moral holds and where it does not; embeddings of
# images that were not trained on; and networks of finite width, which are *faster* than their kernel predicts, for a reason
# that is not the usual one.

# %% tags=["parameters"]
seed = 0
ring_pairs = 200  # n, two rings in the plane
turn = 150.0  # degrees: largest rotation of a view
kernel_width = 0.4  # of the RBF kernel, rings have radii 0.4 and 1
dimensions = 2  # d, rings: the modes that stand out
start_scales = [1e-8, 1e-6, 1e-4, 1e-2, 0.1, 0.3, 1.0]  # alpha
competitors = 2000  # random embeddings with zero loss
photo_pairs = 200  # n, photo crops
patch = 24  # side of the patch from which two crops are taken
crop = 16
photo_dimensions = 8  # d, photo crops
init_scale = 1e-7  # alpha of the run on photo crops
stability_fraction = 0.1  # learning rate in units of 1/(4 gamma_1)
digit_pairs = 100  # n, digits
held_out = 400
held_out_modes = 80
widths = [64, 512, 4096]  # h, wide networks
wide_seeds = [0, 1, 2]
wide_pairs = 40
wide_dimensions = 5
output_scale = 1e-4  # alpha of the networks' outputs
leak_widths = [64, 512]
leak_scales = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6]  # alpha
explorer_times = 14
device = "cpu"

# %% tags=["hide-input"]
import numpy as np
from IPython.display import Markdown

from learndyn.core.claims import Ledger
from learndyn.core.explorer import explore, format_value
from learndyn.core.plotting import show, use_style
from learndyn.core.source import source
from learndyn.ssl_dynamics.stepwise import figures_kernel as figures
from learndyn.ssl_dynamics.stepwise import kernel, linear, linearised, published
from learndyn.ssl_dynamics.stepwise import settings_kernel as experiment
from learndyn.ssl_dynamics.stepwise import tasks, toy, wide
from learndyn.ssl_dynamics.stepwise.claims import kernel as claims

use_style()
settings = experiment.KernelNotebook.from_notebook(globals())
ledger = Ledger("ssl_dynamics", "stepwise_kernel", claims.CLAIMS)

# %% [markdown]
# ## Functions, learned one at a time
#
# Points lie on two rings. The two views of a point are two random rotations of it, so all that they share is the radius. A
# linear model can do nothing with such pairs; a kernel model can. Look at what it learns, and in which order: first a bump
# that is of one sign everywhere (nothing is centred, and the constant agrees with itself best), then *inside against
# outside*, the one thing that rotation leaves alone. The third has nothing to do with the radius: it is what a finite
# sample leaves of directions, and another seed gives another one.

# %%
pairs = experiment.ring_pairs(settings.seed, settings.ring_pairs, settings.turn)
similarity = kernel.RBF(settings.kernel_width)
rings = experiment.planar(pairs, similarity, modes=4)
show(
    figures.learned_functions(rings._replace(functions=rings.functions[:3])),
    name="stepwise-kernel-functions",
    caption="The points, with the two views of six of them joined by arcs, and the first three functions that a kernel model "
    "with RBF kernel learns from such pairs, in the order of learning. Red is negative, blue positive. Percentages: for how "
    "many points the sign of the function names the ring (50 % by chance).",
)

# %% [markdown]
# ## The kernel model
#
# Stack all first views and then all second views, $S=[x_1,\dots,x_n,x_1',\dots,x_n']$, and let
#
# $$
# \begin{aligned}
# \tilde K&=k(S,S),\\
# Z&=\frac1{2n}\begin{pmatrix}0&I\\I&0\end{pmatrix}.
# \end{aligned}
# $$ (eq-stepwise-kernel-setting)
#
# An embedding $F$ of the samples ($d\times2n$) has $C=FZF^\top$. A kernel model is linear in features, and on the samples
# the $2n$ columns of $\tilde K^{1/2}$ serve as features: $F=W\tilde K^{1/2}$. Then $C=W\,K_\Gamma W^\top$ with the
# *contrastive kernel matrix*
#
# $$
# \begin{aligned}
# K_\Gamma&=\tilde K^{1/2}Z\,\tilde K^{1/2}\\
# &=\tilde K^{-1/2}M\tilde K^{-1/2},\\
# M&=\tfrac1{2n}\bigl(\tilde K_{:X}\tilde K_{X':}+\tilde K_{:X'}\tilde K_{X:}\bigr),
# \end{aligned}
# $$ (eq-stepwise-kernel-contrastive)
#
# and it takes the place of $\Gamma$ in everything that [the linear model](stepwise_linear.py) taught. The second form builds it
# from blocks of the kernel matrix: $\tilde K_{:X}$ has the columns of first views, $\tilde K_{X':}$ the rows of second views (and
# $\tilde K^{-1/2}$ is a pseudo-inverse where $\tilde K$ is singular). Both in code; in the first, `root` is $\tilde K^{1/2}$, and $Z$
# swaps its blocks:

# %% tags=["remove-input"]
source(kernel._sandwich, kernel.contrastive_kernel_whitened)

# %% [markdown]
# Three statements to check: both forms agree; the non-zero eigenvalues are those of $\Gamma$ in feature space, which we can write
# down for $k(x,y)=(1+x^\top y)^2$; and with the linear kernel nothing new happens, at new points neither.

# %%
digits, new_digits = experiment.split_digits(settings.seed, settings.digit_pairs, settings.held_out)
samples = kernel.stack_views(digits.view_a, digits.view_b)
digit_matrix = kernel.relu_tangent_kernel(samples, samples)
gaps = {
    "stepwise.kernel-forms": experiment.forms_gap(digit_matrix),
    "stepwise.kernel-spectrum": experiment.spectrum_gap(rings.samples),
    "stepwise.kernel-linear": experiment.linear_gap(digits, new_digits.view_a, dimensions=5),
}
for claim, gap in gaps.items():
    ledger.check(claim, gap, at_paper_scale=True)
Markdown(
    "Largest relative differences: {:.0e} (two forms), {:.0e} (spectrum), {:.0e} (linear kernel).".format(
        *gaps.values()
    )
)

# %% [markdown]
# ### Half of the eigenvalues are negative
#
# $Z$ has $n$ eigenvalues $+\frac1{2n}$ and $n$ eigenvalues $-\frac1{2n}$, and a product with an invertible $\tilde K^{1/2}$ on both
# sides keeps the number of either sign. So at most $n$ dimensions can be learned from $n$ pairs, however rich the kernel; the
# negative modes are those on which the views disagree, and they decay. Look at where the curves cross zero. (An eigenvalue of $\tilde K$ below
# $10^{-10}$ of the largest counts as zero.)

# %%
photos = tasks.photo_pairs(settings.seed, settings.photo_pairs, settings.patch, settings.crop)
photo_samples = kernel.stack_views(photos.view_a, photos.view_b)
photo_model = kernel.kernel_model(kernel.relu_tangent_kernel(photo_samples, photo_samples))
digit_model = kernel.kernel_model(digit_matrix)
spectra = {"digits": digit_model.modes.eigenvalues, "photo crops": photo_model.modes.eigenvalues}
ledger.check(
    "stepwise.kernel-signs", claims.Signs(spectra["digits"], settings.digit_pairs), at_paper_scale=True
)
show(
    figures.signed_spectra(spectra, {"digits": settings.digit_pairs, "photo crops": settings.photo_pairs}),
    name="stepwise-kernel-spectra",
    caption="All eigenvalues of $K_\\Gamma$ in descending order, ReLU tangent kernel of infinite width. Linear between "
    "$-10^{-3}$ and $10^{-3}$, logarithmic outside.",
)

# %% [markdown]
# ## Proposition 5.1: what is learned
#
# Let $\gamma_1\ge\dots\ge\gamma_d>0$ be the top eigenvalues of $K_\Gamma$ and $B=[b_1\dots b_d]$ their eigenvectors. From a
# small start the kernel model learns
#
# $$
# \begin{aligned}
# f(x)&=U\,\operatorname{diag}\bigl(\gamma_j^{-1/2}\bigr)\\
# &\quad\cdot B^\top\tilde K^{-1/2}\,k(S,x)
# \end{aligned}
# $$ (eq-stepwise-kernel-embedding)
#
# with some orthogonal $U$. It has $C=I$, and among all embeddings with $C=I$ it has the least norm in the kernel's Hilbert
# space,
#
# $$
# \lVert f\rVert_K^2=\sum_{j\le d}1/\gamma_j .
# $$ (eq-stepwise-kernel-norm)
#
# The library's function is a few lines, and knows nothing of training. It takes $U=I$; `top.vectors` is $B^\top$:

# %% tags=["remove-input"]
source(kernel.KernelModel.embed)

# %% [markdown]
# Against gradient flow on the rings, and against random embeddings:

# %%
learned = rings.model.embed(settings.dimensions)
ending = experiment.follow_flow(rings.model, settings.dimensions, scale=1e-10, seed=settings.seed)
others = experiment.competitors(rings.model, settings.dimensions, settings.competitors, settings.seed)
ledger.check("stepwise.kernel-end", ending, at_paper_scale=True)
ledger.check("stepwise.kernel-norm", claims.Race(others, ending), at_paper_scale=True)
Markdown(
    f"Gradient flow from α = 1e-10, integrated to its end: 1 − a ≤ {max(ending.misalignment, 1e-15):.0e} for the alignment "
    f"with the predicted subspace; squared norm {ending.norm_squared:.8f}, where the formula says {learned.norm_squared:.8f}."
)

# %% [markdown]
# There are infinitely many embeddings with $C=I$. Below are random ones, made of the modes above one per cent of $\gamma_1$
# (smaller modes cost more norm still), half of them with parts on negative modes. Look at the distance between the dot
# and the nearest of them.

# %% tags=["hide-input"]
show(
    figures.norm_race(others, learned.norm_squared, ending.norm_squared),
    name="stepwise-kernel-norms",
    caption="Squared norms in the Hilbert space. Dashed: the formula. Dot: where gradient flow from a small start ended. Of the two "
    "humps the right one has parts on negative modes.",
)

# %% [markdown]
# **And from a large start.** The least norm is a gift of the small start, not of the loss. The same model, trained
# from $W(0)=\alpha\,\mathcal N(0,1)$ until the loss vanishes: look at the right end of both panels, where the loss is as
# small as on the left, and the embedding hardly better than a random one.

# %%
ends = experiment.large_starts(rings.model, settings.dimensions, settings.start_scales, settings.seed)
ledger.check("stepwise.kernel-large-start", ends, at_paper_scale=True)
show(
    figures.large_starts(ends, settings.dimensions, len(rings.samples)),
    name="stepwise-kernel-large-start",
    caption="Alignment of the learned with the predicted subspace, and squared norm over the least one, after training from "
    "starts of different scales. Every run ends with zero loss.",
)

# %% [markdown]
# ## When: the staircase of a kernel machine
#
# In the features $\tilde K^{1/2}$ the kernel model *is* the linear model, with $W(0)=F_0\tilde K^{-1/2}$ for initial
# embeddings $F_0$. So eq. 10 of the paper holds as it stands,
#
# $$
# \begin{aligned}
# \lambda_j(t)&=\gamma_js_j(t)^2\\
# &=\frac1{1+\bigl(1/\lambda_j(0)-1\bigr)e^{-8\gamma_jt}},
# \end{aligned}
# $$ (eq-stepwise-kernel-logistic)
#
# with $s_j(0)$ from the QR factorisation of $W(0)B$. The trainer is the one of the linear model too; only the modes are
# others. Photo crops, with the tangent kernel of an infinitely wide ReLU network (formula below): look at the steps of
# height 1, and at the dashed curves, which were known before the first step.

# %%
config = toy.ToyConfig(
    dimensions=settings.photo_dimensions,
    init_scale=settings.init_scale,
    seed=settings.seed,
    stability_fraction=settings.stability_fraction,
)
log = toy.train(config, photo_model.modes, device=settings.device)
ledger.check("stepwise.kernel-dynamics", log, at_paper_scale=True)
show(
    figures.staircase(log, photo_model.modes.top(settings.photo_dimensions).eigenvalues.numpy()),
    name="stepwise-kernel-staircase",
    source="eq. 10",
    caption="Gradient descent (broad) and the closed form with the eigenvalues of $K_\\Gamma$ (dashed; dotted lines at the "
    "predicted half times).",
)

# %%
ratios = experiment.half_time_ratios(log)
Markdown(
    f"{int(log.step[-1]):,} steps. Half times over predicted ones: {ratios[0]:.4f} for mode 1, {ratios[1:].min():.4f} to "
    f"{ratios[1:].max():.4f} for the others; final alignment with the predicted subspace {float(log.alignment[0, -1]):.4f}."
)

# %% [markdown]
# ## Kernel PCA, and what pairs add to it
#
# Let both views be the same, $x_i'=x_i$. Then the non-zero eigenvalues of $K_\Gamma$ are those of $K/n$, with $K$ the kernel matrix
# of the $n$ points, and {eq}`eq-stepwise-kernel-embedding` gives its top eigenvectors, each scaled to unit mean square. If features are centred as
# well, that is kernel PCA {cite:p}`scholkopf1998kpca`, whitened. Here against scikit-learn's:

# %%
gap = experiment.kernel_pca_gap(pairs.view_a, similarity, components=8)
ledger.check("stepwise.kernel-pca", gap, at_paper_scale=True)
Markdown(
    f"Eight components: eigenvalues differ by {gap.eigenvalues:.0e}, embeddings by {gap.embeddings:.0e}."
)

# %% [markdown]
# "Kernel PCA is to self-supervised learning what kernel regression is to supervised learning." In this sense: a kernel, one
# eigenproblem, no training, and a wide network trained from small outputs ends at its solution. What the sentence leaves out
# are the pairs. Plain kernel PCA sees points; what it learns first is what *varies* most. $K_\Gamma$ weighs variation by
# whether the two views agree on it. Look for the function that tells the rings apart in either row: with identical views
# it comes after the directions, though nobody asked about directions; with rotated views it comes before them.

# %%
same = experiment.ring_pairs(settings.seed, settings.ring_pairs, turn=0.0)
identical = experiment.planar(same, similarity, modes=4)
signs = {
    name: experiment.ring_signs(plane.model.embed(4).embeddings, plane.samples.norm(dim=1))
    for name, plane in (("identical", identical), ("rotated", rings))
}
show(
    figures.pca_against_pairs(rings, identical, signs),
    name="stepwise-kernel-pca",
    caption="The first four learned functions. Above: identical views, which is kernel PCA without centring. Below: rotated "
    "views. The same kernel, the same rings. Framed: the function whose sign tells the rings apart best.",
)

# %% [markdown]
# ## Explorer: time, and what the pairs decide
#
# The functions brighten as their eigenvalues $\lambda_j$ grow from 0 to 1.

# %%
planes = {"rotated": rings, "identical": identical}
clock = experiment.clock(list(planes.values()), 4, settings.init_scale, settings.explorer_times)
explore(
    lambda views, time: figures.explorer_frame(planes[views], clock.start, clock.times, time),
    {"views": list(planes), "time": clock.times},
    name="stepwise-kernel-explorer",
    labels={"time": "effective time $t$"},
    start={"time": clock.times[len(clock.times) // 2]},
    caption="Move the time and watch one function after another appear, each with a step of the loss. Then choose identical "
    "views: which function comes second now, and which two arrive together?",
)

# %% [markdown]
# ## New images
#
# The embedding {eq}`eq-stepwise-kernel-embedding` is a function of $x$, so it embeds images that were not trained on. Here it
# is learned from noisy pairs of digits, and tested on pairs of other digits. On the training pairs $C_{jj}=1$ for every mode, by
# construction. Look at how the agreement of new pairs falls with $j$: a large $\gamma_j$ is evidence, since it takes
# many pairs to make one; a small one can be an accident of the sample. Learning big eigenvalues first, and stopping at $d$, is
# a regulariser.

# %%
agreement = experiment.held_out_agreement(
    digits, new_digits, kernel.relu_tangent_kernel, settings.held_out_modes, settings.seed
)
ledger.check("stepwise.kernel-held-out", agreement, at_paper_scale=False)
show(
    figures.held_out(agreement),
    name="stepwise-kernel-held-out",
    caption="Correlation between $f_j(x)$ and $f_j(x')$ over held-out pairs (indigo), the same with partners of other images "
    "(grey), and $C_{jj}$ on held-out pairs (rust), which is 1 on the training pairs. Where rust is far below indigo, the function "
    "still agrees with itself but is much smaller on new images.",
)

# %% [markdown]
# ## Wide networks
#
# A network of infinite width is a kernel machine with its neural tangent kernel {cite:p}`jacot2018ntk`. For
# $f(x)=\sqrt{2/h}\,W_2\operatorname{relu}(W_1x/\sqrt m)$ with all weights $\mathcal N(0,1)$ and $h\to\infty$ it is
#
# $$
# \begin{aligned}
# k(x,y)&=\frac{\lvert x\rvert\lvert y\rvert}{\pi m}\,\kappa(\varphi),\\
# \kappa(\varphi)&=\sin\varphi+2(\pi-\varphi)\cos\varphi,
# \end{aligned}
# $$ (eq-stepwise-kernel-ntk)
#
# $\varphi$ the angle between $x$ and $y$; every output has this kernel, and no two outputs are coupled. In code, for all points of two
# sets at once:

# %% tags=["remove-input"]
source(kernel.relu_tangent_kernel)

# %% [markdown]
# Small outputs are needed, but small weights would change the kernel; so $f_\theta-(1-\alpha)f_{\theta_0}$ is trained, which
# starts at $\alpha f_{\theta_0}$.
#
# At finite width the recipe is: compute the tangent kernel of the network at initialisation, averaged over its outputs;
# take $\gamma_j$ from $K_\Gamma$ and $s_j(0)$ from the initial outputs; predict when each mode is learned and which subspace
# is reached; then train all weights. Look at the narrow network beside the wide one: it does the same things in the same
# order, only earlier than predicted (dashed).

# %%
networks = wide.train(settings.wide_config, device=settings.device)
large = settings.is_large  # the paper profile's widths; no such run is published
for claim in ("stepwise.wide-times", "stepwise.wide-faster"):
    ledger.check(claim, networks, at_paper_scale=large)
show(
    figures.narrow_and_wide(networks, settings.wide_seeds[0]),
    name="stepwise-kernel-narrow-wide",
    caption="Eigenvalues of $C$ while training on pairs of digits (colour) and predicted from the tangent kernel at "
    "initialisation (dashed). Left the narrowest, right the widest network, same data.",
)

# %% [markdown]
# All widths and seeds. Filled: this run. Hollow: runs of an independent program of ours, other seeds of data and weights.
# Look at the first mode, which is right even in narrow networks, and at the last, which is not yet right in the widest.
# Alignment has a limit that is not the network's: where $\gamma_{d+1}\approx\gamma_d$, training with the very kernel of the theory does not end in the predicted
# subspace either ([the linear model](stepwise_linear.py) says how slowly that improves with $\alpha$). The claim on alignment
# is judged on the other seeds.

# %% tags=["hide-input"]
show(
    figures.by_width(networks, published.lazy_width()),
    name="stepwise-kernel-widths",
    caption="Above: measured over predicted half time, by mode. Below: alignment of the learned with the predicted embedding. "
    "Lines: mean over seeds.",
)

# %% [markdown]
# ### Why narrow networks are too fast
#
# The obvious suspect: the kernel moves while training. It does. But look at how little, and how fast the
# change falls with width ($h^{-1}$, as perturbation theory says {cite:p}`dyer2020asymptotics`). The other two curves are what
# the averaged kernel leaves out *before* training: a finite network has a block $\Theta_{oo'}$ for each pair $o,o'$ of
# outputs. Blocks on the diagonal differ from each other, those off it are not zero, both by about $h^{-1/2}$. The distance of
# the average from {eq}`eq-stepwise-kernel-ntk` falls in the same way.

# %%
frozen = linearised.compare(settings.wide_config, device=settings.device)
limit = experiment.infinite_width(settings.wide_config)
curves = {
    "blocks": frozen.coupling,
    "from infinite width": limit.distance,
    "moved by training": networks.kernel_change,
}
for claim, result in (("moves", networks), ("coupling", frozen), ("infinite", limit)):
    ledger.check(f"stepwise.wide-{claim}", result, at_paper_scale=large)

# %% tags=["hide-input"]
exponents = {name: experiment.exponent(values) for name, values in curves.items()}
show(
    figures.small_with_width(curves, exponents),
    name="stepwise-kernel-differences",
    caption="Relative differences between kernels, mean over seeds. Blocks: all blocks of the initial kernel against their "
    "average for every output. Moved by training: average after against before.",
)

# %% [markdown]
# So freeze the kernel, and train with it in two ways: with all blocks (the network linearised at its start), and with their
# average for every output (what the theory assumes). If motion made networks fast, both would be on time. Look at the
# indigo dots: the frozen network is as fast as the real one.

# %%
ledger.check("stepwise.wide-blocks", claims.Frozen(networks, frozen), at_paper_scale=large)
ledger.check("stepwise.wide-alignment", claims.Frozen(networks, frozen), at_paper_scale=large)
show(
    figures.frozen(networks, frozen),
    name="stepwise-kernel-frozen",
    caption="Each dot is a mode of one network. On the dotted diagonal a frozen kernel takes the time of the trained network. "
    "Amber: the averaged kernel, near 1 however fast the network was.",
)

# %%
Markdown(
    f"The averaged kernel moves by {100 * float(networks.kernel_change[0].mean()):.0f} % in the narrowest networks and by "
    f"{100 * float(networks.kernel_change[-1].mean()):.1f} % in the widest; half times are off by "
    f"{100 * float(claims.mean_error(networks.ratio)[0]):.0f} % and {100 * float(claims.mean_error(networks.ratio)[-1]):.0f} %."
)

# %% [markdown]
# The reason is a leak. While mode 1 grows in one direction of the outputs, the blocks that couple outputs pass a share of it
# on to the others, mixed with other modes. At the time $\tau_1$ at which mode 1 is learned, the theory expects
# $\lambda_2\sim\alpha^{2-2\gamma_2/\gamma_1}$. The leak has grown along with mode 1, from the same $\alpha$, and is some
# fraction of order $1/h$ of $\lambda_1$ whatever $\alpha$ was. Look at where the curves leave the dashed line.

# %%
config = settings.wide_config.replace(width=settings.leak_widths)
leak = experiment.head_start(config, settings.leak_scales, device=settings.device)
ledger.check("stepwise.wide-head-start", leak, at_paper_scale=large)
show(
    figures.head_start(leak),
    name="stepwise-kernel-leak",
    caption="Second eigenvalue of $C$ at the predicted half time of mode 1 (geometric mean over seeds), against the scale of "
    "the initial outputs, which decreases to the right. Dashed: the kernel theory.",
)

# %%
error = leak.error.mean("seed")
Markdown(
    f"Half times of the networks of {int(leak.width[0])} units are off by "
    + ", ".join(f"{100 * float(one):.0f} % from α = {format_value(float(one.scale))}" for one in error[:, 0])
    + " (mean over modes and seeds of the logarithm of the ratio)."
)

# %% [markdown]
# So the two limits of the theory, infinite width and vanishing start, do not commute. At fixed width a *smaller* start makes
# the predicted times worse: the theory waits for mode 2 ever longer, while the network's head start stays. Take the limit of
# width first. Mode 1 has nobody before it, and is nearly on time in every network.
#
# ## Where the story stops
#
# - Everything here needs the kernel before training. A ResNet in practice is not wide enough, and not started so that its
#   kernel stays. [The next notebooks](stepwise_resnet.py) take the kernel *after* training instead, and ask whether it
#   predicts the embedding that the network has. That is a weaker statement: it cannot predict when.
# - The width at which a prediction holds depends on what is asked: few units for the first half time, more than we train for the
#   last, and more still for a smaller `output_scale`. The paper states the limit, not the rate; the leak is our finding on this
#   task, not theirs.
# - A rich kernel has as many positive modes as there are pairs, and the late ones hold less and less for new images. Set
#   `held_out_modes` to 100, or `digit_pairs` to 400.
# - $\tilde K$ costs $O(n^2)$ memory and $O(n^3)$ time, out of the question for the 105,000 training images of STL-10: the paper
#   computes tangent kernels on 1,000 pairs.
#
# ## Exercises
#
# **1.** Set `wide_dimensions` to 1. Is a network of the smallest width on time?

# %% tags=["hide-cell"]
alone = wide.train(
    settings.wide_config.replace(width=settings.widths[:1], dimensions=1), device=settings.device
)
Markdown(
    "Half time over predicted half time: "
    + ", ".join(f"{value:.2f}" for value in alone.ratio.values.ravel())
    + " by seed. With one output there is no other output to leak to, and no second mode to be early. What remains "
    "is the motion of the kernel, and the discrete steps."
)

# %% [markdown]
# **2.** Set `turn` to 60 degrees. Which function comes second?

# %% tags=["hide-cell"]
gentle = experiment.ring_pairs(settings.seed, settings.ring_pairs, turn=60.0)
plane = experiment.planar(gentle, similarity, modes=4)
found = experiment.ring_signs(plane.model.embed(4).embeddings, plane.samples.norm(dim=1))
Markdown(
    f"The sign of function {int(np.argmax(found)) + 1} tells the rings apart best, for {100 * max(found):.0f} % of the points; "
    f"that of function 2 for {100 * found[1]:.0f} % (chance is 50 %). Rotations by up to 60° leave directions mostly as they "
    "are, so directions stay ahead of the rings."
)

# %% [markdown]
# **3.** Set `kernel_width` to 0.1. How many positive modes are there, and how far apart are the first ones?

# %% tags=["hide-cell"]
sharp = experiment.planar(pairs, kernel.RBF(0.1), modes=4)
values = {name: plane.model.modes.eigenvalues for name, plane in (("0.4", rings), ("0.1", sharp))}
Markdown(
    "; ".join(
        f"width {name}: {linear.positive_modes(gamma)} positive modes, γ₂/γ₁ = {float(gamma[1] / gamma[0]):.2f}, "
        f"γ₃/γ₂ = {float(gamma[2] / gamma[1]):.2f}"
        for name, gamma in values.items()
    )
    + ". A narrow kernel hardly relates different points: many modes, closer to each other, and less order in learning them."
)

# %% [markdown]
# ## Claims

# %%
ledger
