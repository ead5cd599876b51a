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
# # Where the story goes on
#
# **What the paper claims.** Embeddings are learned one mode at a time, in the order of the eigenvalues of $\Gamma$
# {cite:p}`simon2023stepwise`. It leaves open whether the steps are good for anything; the authors ask so themselves
# {cite:p}`simon2023blog`.
#
# **What you will see.** Almost everything here is our addition. Two features of different size, to see what the order means.
# Positive pairs that are no pairs: the staircase is still there. What other losses learn first, and a loss that begins with
# noise. Accuracy along the staircase. An optimiser that takes the steps faster, and what it costs. Two layers, whose
# clock runs differently. Temperature. And another equation of the same family in which nothing grows from zero.

# %% tags=["parameters"]
seeds = [0, 1]  # of networks
feature_pairs = 256  # toys of two features
feature_scale = 1e-3
feature_hidden = 64
feature_steps = 1500
linear_pairs = 500  # shuffled positives, linear model on photographs
linear_dimensions = 10
control_pairs = 100  # shuffled positives, MLP on digits
control_steps = 1600
control_learning_rate = 0.03
many_pairs = 400  # the same with more pairs
many_steps = 2200
operator_scales = [1e-4, 1e-5, 1e-6]  # of W, for first-step operators
nuisance_ratios = [1.0, 30.0]  # inv/var of VICReg
nuisance_seeds = [0, 1, 2, 3, 4, 5, 6, 7]
sweep_ratios = [1.0, 5.0, 10.0, 14.0, 18.0, 22.0, 24.0, 26.0, 30.0, 40.0]
probe_train = 1000  # images whose labels k-NN and probe know
probe_pairs = 400  # of these, used for training
probe_dimensions = 16
probe_steps = [1000, 2500, 600]  # Barlow Twins, VICReg, SimCLR
neighbours = 5
exponents = [0.0, 0.25, 0.5, 0.75, 1.0]  # p of the preconditioner
selectivity_seeds = [0, 1, 2, 3, 4, 5, 6, 7]
explorer_exponents = [0.0, 0.25, 0.5, 0.625, 0.75, 0.875, 1.0]
explorer_scales = [1e-2, 1e-4, 1e-8]
depth_scales = [0.3, 0.1, 0.05]
temperatures = [0.2, 0.5, 1.0]
temperature_steps = 3000
predictor_decay = 0.1
device = "cpu"
progress = True  # a bar while training

# %% tags=["hide-input"]
from IPython.display import Markdown

from learndyn.core.claims import Ledger
from learndyn.core.explorer import explore
from learndyn.core.plotting import show, use_style
from learndyn.core.source import source
from learndyn.core.tables import frame_html
from learndyn.ssl_dynamics.stepwise import controls, depth, growth, nuisance, preconditioner
from learndyn.ssl_dynamics.stepwise import published, tasks, toy
from learndyn.ssl_dynamics.stepwise import experiments_beyond as experiments
from learndyn.ssl_dynamics.stepwise import figures_beyond as figures
from learndyn.ssl_dynamics.stepwise.claims import beyond as claims
from learndyn.ssl_dynamics.stepwise.settings_beyond import Beyond

use_style()
settings = Beyond.from_notebook(globals())
ledger = Ledger("ssl_dynamics", "stepwise_beyond", claims.CLAIMS)

# %% [markdown]
# ## Bigger and louder first
#
# What does a large eigenvalue of $\Gamma$ mean? Take inputs that hold two features, each with a random sign $b=\pm1$ that the
# two views share. In the first toy, after an anonymous follow-up paper ("Stepwise Feature Learning in Self-Supervised
# Learning"), one feature covers nine inputs and the other one; in the second, both are waves over all $m$ inputs, at
# angles $\theta_i=2\pi i/m$, one with three times the amplitude, $c_1=3c_2$:
#
# $$
# \begin{aligned}
# x&=(b_1\mathbf 1_9,\;b_2\mathbf 1_1):\quad\gamma=(9,1),\\
# x_i&=c_1b_1\sin2\theta_i+c_2b_2\sin12\theta_i:\\
# &\qquad\gamma=\tfrac m2(c_1^2,c_2^2).
# \end{aligned}
# $$ (eq-stepwise-beyond-features)
#
# So the order of learning is an order of size: of extent, or of amplitude. Critical times are
# $\tau_j=-\log(\gamma_js_j(0)^2)/(8\gamma_j)$, hence about $1:9$ up to the logarithm. Look below at how well the dashed
# closed forms describe gradient descent.

# %%
pairs = experiments.feature_pairs(settings)
toys = {name: experiments.feature_toy(settings, views) for name, views in pairs.items()}
show(
    figures.features(pairs, toys),
    name="stepwise-two-features",
    caption="Above: one view of each toy. Below: the two eigenvalues of $C$ in time, the large feature in indigo, the small one "
    "in rust; dashed: closed form.",
)

# %% [markdown]
# A network with one ReLU layer is no linear model, but from a small last layer it starts as one in its tangent features. The
# order stays; the ratio does not have to.

# %%
for name, views in pairs.items():
    network = experiments.feature_network(settings, views)
    result = claims.TwoFeatures(toys[name], network)
    ledger.check(f"stepwise.{name}-bias", result, at_paper_scale=False)
ratios = network["half_time"].values[:, 1] / network["half_time"].values[:, 0]
Markdown(f"ReLU networks on the waves: half times 1 : {ratios.min():.1f} to 1 : {ratios.max():.1f}.")

# %% [markdown]
# This is a statement about size, not about use. If the loud feature is the background, it is learned first.
#
# ## Steps without meaning: shuffled positives
#
# Permute the second views among the images, so that the members of a pair have nothing in common. Apart from the mean of all
# views, which no permutation touches, $\Gamma$ is now what a finite sample leaves of zero: small, with as many negative as
# positive eigenvalues. But it is still a symmetric matrix with $d$ positive eigenvalues, and the theory asks for nothing else.
# Look for what changes: not the staircase, only its time.

# %%
photos = tasks.photo_pairs(0, settings.linear_pairs, patch=32, crop=20)
logs = controls.shuffle_control(
    photos, toy.ToyConfig(dimensions=settings.linear_dimensions), device=settings.device
)
ledger.check("stepwise.shuffled-linear", logs, at_paper_scale=False)
show(
    figures.shuffled_linear(logs),
    name="stepwise-shuffled-linear",
    caption="Linear model on crops of photographs, with true (indigo) and shuffled (rust) positives. Right: "
    "eigenvalues of $\\Gamma$ by size, positive ones solid and negative ones dashed.",
)

# %%
negative = {name: claims.negative_share(log["spectrum"].values) for name, log in logs.items()}
Markdown(
    f"Negative eigenvalues of $\\Gamma$: {100 * negative['true']:.0f} % with true pairs, {100 * negative['shuffled']:.0f} % with "
    "shuffled ones. There are more inputs than views, so even true pairs have many; what they also have is a large positive end."
)

# %% [markdown]
# A network does the same: it memorises which noise belongs to which. Below, the MLP of [A small network takes the steps](stepwise_mlp.py) on pairs of
# digits, at a smaller learning rate. The first mode hardly moves, because it is the mean embedding, which no permutation
# touches. The third panel shows how well the embedding of *new* digits can be classified by its nearest neighbours.

# %%
digits = experiments.shuffled_digits(settings, settings.control_pairs, settings.control_steps)
ledger.check("stepwise.shuffled-mlp", digits, at_paper_scale=False)
show(
    figures.shuffled_mlp(digits),
    name="stepwise-shuffled-mlp",
    caption="MLP with Barlow Twins on digits: loss (all seeds), eigenvalues of $C$ (first seed), k-NN accuracy on test digits (all "
    "seeds); true positives in indigo, shuffled ones in rust.",
)

# %% [markdown]
# Is the embedding of meaningless pairs worse? Compare the last networks, also after training with more pairs, by nearest
# neighbours and by a linear probe (a linear classifier of the embedding):

# %%
more = experiments.shuffled_digits(settings, settings.many_pairs, settings.many_steps)
ledger.check("stepwise.shuffled-meaning", more, at_paper_scale=False)
ends = experiments.shuffled_table({settings.control_pairs: digits, settings.many_pairs: more})
frame_html(ends, label="Accuracy on test digits with true and shuffled positives")

# %%
start, end = (float(digits["shuffled"]["knn"].isel(checkpoint=i).mean()) for i in (0, -1))
modes = digits["true"].sizes["mode"]
held = controls.captured_variance(*experiments.digit_controls(settings, settings.control_pairs), modes)
Markdown(
    f"k-NN accuracy with {settings.control_pairs} shuffled pairs still goes from {start:.2f} (random weights) to {end:.2f}, although the pairs "
    f"mean nothing. What is left in a shuffled $\\Gamma$ is largest where the inputs vary most: its top {modes} "
    f"eigenvectors hold {100 * held['shuffled']:.0f} % of the views' second moment, as many random directions "
    f"{100 * held['random']:.0f} %, the best possible {100 * held['best']:.0f} %."
)

# %% [markdown]
# So neither a staircase nor zero loss says that the pairs meant something. Both are properties of the dynamics.
#
# ## What each loss learns first
#
# Every loss of this chapter has a first step that can be written down. For $f(x)=Wx$ and tiny $W$,
#
# $$
# \nabla\mathcal L=-2WM+\dots
# $$ (eq-stepwise-beyond-first)
#
# so the first direction learned is the top eigenvector of $M$, and it grows at twice its eigenvalue. With $\Sigma$ and $\mu$ the
# second moment and mean of all $2n$ views, $\Sigma_c$ the covariance of a view, $T$ the temperature and $b$ the bias of the head:
#
# | loss | $M$ |
# |---|---|
# | Barlow Twins, theory; spectral contrastive {cite:p}`haochen2021spectral` | $2\Gamma$ |
# | Barlow Twins, standard (variance of the outputs $\ll$ eps) | $\frac{2}{\mathrm{eps}}\Gamma_c$, centred |
# | InfoNCE, inner products {cite:p}`oord2018cpc` | $\frac1T\Gamma_s$, $\Gamma_s=\Gamma-\frac{2n\mu\mu^\top-\Sigma}{2n-1}$ |
# | NT-Xent, cosine, head bias $b$ | $\frac{1}{T\lVert b\rVert^2}\Gamma_s$, on rows orthogonal to $b$ |
# | VICReg (variance $\ll$ eps) | $\frac{\mathrm{var}}{2d\sqrt{\mathrm{eps}}}\Sigma_c-\frac{2\,\mathrm{inv}}{d}(\Sigma-\Gamma)$ |
#
# The two that take more than $\Gamma$, in code: $\Gamma_s$, with $2n\mu$ in `total`, and VICReg's $M$, with $\Sigma_c$ in `covariance`:

# %% tags=["remove-input"]
source(growth._without_candidates, growth._vicreg)

# %% [markdown]
# NT-Xent without a bias has no such limit: cosines do not know that $W$ is small. The table compares $-2WM$ with the gradient by
# automatic differentiation on digit pairs: relative errors, which must fall with the scale of $W$. The last column puts
# the best multiple of $\Gamma$ in the place of $M$.

# %%
table = experiments.first_steps(settings)
ledger.check("stepwise.first-step-operators", table, at_paper_scale=True)
frame_html(experiments.first_step_table(table), label="Relative errors of first-step operators against gradients")

# %% [markdown]
# The spectral contrastive loss can be followed to the end where $\Gamma$ and $\Sigma$ commute (eigenvalues $\gamma$, $\sigma$). It
# has the logistic curves of Barlow Twins with another plateau:
#
# $$
# s(t)^{-2}=\tfrac{\sigma^2}\gamma+(s(0)^{-2}-\tfrac{\sigma^2}\gamma)e^{-8\gamma t}
# $$ (eq-stepwise-beyond-spectral)
#
# In code, solved for $s^2$, with `initial` for $s(0)$; `start` and `moved` are squares, too:

# %% tags=["remove-input"]
source(growth.spectral_contrastive_trajectory)

# %%
error = experiments.spectral_error()
ledger.check("stepwise.spectral-trajectory", error, at_paper_scale=True)
Markdown(f"Largest relative error of the closed form against integrated gradient flow: {error:.0e}.")

# %% [markdown]
# ### VICReg learns nuisance first
#
# VICReg's $M$ rewards variance, whether or not the views agree on it. In a direction in which they do not agree at all,
# $\Sigma-\Gamma=\Sigma$, and growth has the sign of $\mathrm{var}/(4\sqrt{\mathrm{eps}})-\mathrm{inv}$. Nuisance is *amplified* if
#
# $$
# \frac{\mathrm{inv}}{\mathrm{var}}<\frac1{4\sqrt{\mathrm{eps}}},
# $$ (eq-stepwise-beyond-threshold)
#
# which is 25 for the usual eps of $10^{-4}$; the customary weights 25, 25, 1 {cite:p}`bardes2022vicreg` have the ratio 1. The
# experiment: two shared directions (standard deviations 1 and 0.77), and two louder ones (1.7 and 1.4) that are drawn afresh for
# each view. Three losses, eight draws, the same axes. Look at which colour is on top, and when.

# %%
runs = experiments.nuisance_runs(settings)
ledger.check("stepwise.nuisance-first", runs, at_paper_scale=False)
show(
    figures.nuisance_planes(runs),
    name="stepwise-nuisance",
    caption="Squared norm of the part of $W$ that reads the shared (indigo) and the nuisance inputs (rust). Thin: one draw "
    "each; thick: median. Weights are inv/var/cov.",
)

# %%
both = runs["nuisance_share"].isel(loss=1).min("direction").max("step")
left = float(claims.nuisance_share(runs).isel(loss=0, step=-1).max())
Markdown(
    f"With {runs['loss'].values[1]} both directions of $W$ become more than 98 % nuisance in {int((both > 0.98).sum())} of {both.size} draws, and "
    "then forget it: the invariance term wins once the variance is no longer small against eps. The nuisance part of Barlow Twins "
    f"rises, too, since the eigenvectors of a $\\Gamma$ of finitely many pairs are slightly tilted, but it ends at {100 * left:.1g} % "
    "of $\\|W\\|^2$ at most."
)

# %% [markdown]
# Now sweep inv/var across the threshold, with infinitely many pairs. Left: growth rates measured in training (dots) and
# from $M$ (dashed). Nuisance stops growing at 25, but is overtaken by the shared direction earlier, where the two
# lines cross. Right: the largest part of the leading direction of $W$ that is nuisance.

# %%
sweep = experiments.nuisance_sweep(settings)
ledger.check("stepwise.nuisance-threshold", sweep, at_paper_scale=True)
show(
    figures.nuisance_threshold(sweep),
    name="stepwise-nuisance-threshold",
    caption="VICReg with weights inv/1/0.2. Dotted lines: the ratio at which nuisance grows as fast as the strongest shared "
    "direction, and that at which it stops growing.",
)

# %% [markdown]
# All this is about outputs whose variance is below eps. Beyond that $M$ does not apply, and networks with an ordinary
# initialisation start there.
#
# ## Are early modes more useful?
#
# The authors leave this open {cite:p}`simon2023blog`. We train the MLP with $d=16$ on 400 fixed pairs of digits, never showing it
# a label, and ask along the way how well 797 new digits are classified: by the 5 nearest of 1000 labelled neighbours, and by a linear
# probe. The number of learned modes is measured by the participation ratio PR, a smooth rank. Follow one path from its square (random
# weights): dotted while the rank collapses, solid as modes are learned.

# %%
probes = experiments.probe_runs(settings)
for claim in ("dip", "rise"):
    ledger.check(f"stepwise.probe-{claim}", probes["barlow_twins"], at_paper_scale=False)
ledger.check("stepwise.probe-dip-others", probes, at_paper_scale=False)
pixels = experiments.pixel_accuracy(settings)
show(
    figures.accuracy_by_rank(probes, published.nearest_neighbours(), pixels, settings.probe_dimensions),
    name="stepwise-accuracy-by-rank",
    caption="First seed. Accuracy on test digits against the participation ratio of the embedding. Crosses: an earlier run of ours with Barlow "
    "Twins. Dotted line: nearest neighbours in pixel space.",
)

# %% tags=["hide-input"]
show(
    figures.accuracy_by_step(probes),
    name="stepwise-accuracy-by-step",
    caption="The same runs in time: k-NN accuracy, and the participation ratio of the embedding's covariance.",
)

# %%
bt = probes["barlow_twins"]
Markdown(
    f"Barlow Twins: k-NN {float(bt['knn'][:, 0].mean()):.3f} with random weights, {float(bt['knn'].min()):.3f} at the bottom, "
    f"{float(bt['knn'][:, -1].mean()):.3f} at the end; pixels {pixels:.3f}. Linear probe {float(bt['linear_probe'][:, 0].mean()):.3f} "
    f"at the start, {float(bt['linear_probe'][:, -1].mean()):.3f} at the end."
)

# %% [markdown]
# What this shows: first learning *hurts* nearest neighbours. One mode (with Barlow Twins the mean embedding) grows until it
# drowns the random features that classified rather well. Accuracy returns with further modes, past the start, and is flat before
# the last ones arrive. The dip goes with the collapse of rank, in all three losses.
#
# What it does not show: that early modes are better than late ones. Accuracy counts them all at once; the order in which
# they come was never varied. Part of the dip is scale, too: what is not yet learned is small, not gone, and the linear probe, which
# rescales its features, falls later and less. And digits are easy: compare the line for pixels, which no embedding of 16 dimensions has to beat.
#
# ## Speed against selectivity
#
# Small initialisation selects because modes race: by the time mode $d$ arrives, mode $d+1$ must still be small. An optimiser that
# helps the late modes spoils the race. Precondition the gradient by $|\Gamma|^{-p}$:
#
# $$
# \dot\lambda_j=8\gamma_j^{1-p}\lambda_j(1-\lambda_j).
# $$ (eq-stepwise-beyond-preconditioned)
#
# At $p=0$ this is gradient descent; at $p=1$ all modes grow at one rate. In code, with $\Gamma$ diagonal:

# %% tags=["remove-input"]
source(preconditioner.preconditioned, preconditioner.integrate_flow)

# %% [markdown]
# Ten modes compete for $d=4$ places, from
# $\alpha=10^{-4}$. Look at how little the median draw loses up to $p=\frac12$, how far others fall, and what is left at 1.

# %%
found = experiments.selectivity(settings)
ledger.check("stepwise.selectivity", found, at_paper_scale=False)
ledger.check("stepwise.preconditioner-speed", found, at_paper_scale=False)
show(
    figures.speed_and_selectivity(found, published.preconditioner(), random=0.4),
    name="stepwise-selectivity",
    caption="Alignment of the learned subspace with the top four modes; squared norm of $W$ over the least possible; steps until the "
    "last eigenvalue passes ½, at a tenth of each optimiser's stability bound. Line: median, band: all draws, crosses: an "
    "earlier draw.",
)

# %%
summary = experiments.selectivity_table(found, published.preconditioner())
frame_html(
    summary,
    formats={name: "{:.3g}" for name in summary.columns if name != "p"},
    label="Speed and selectivity",
)

# %% [markdown]
# Late modes start smallest and their start varies most, so single draws differ a lot. In flow time the last step comes no
# sooner, since here $\gamma_4>1$; the gain is that the first mode no longer limits the learning rate.

# %%
grid, horizon = experiments.explorer_grid(settings)
explore(
    lambda exponent, scale: figures.preconditioner_frame(grid[exponent, scale], exponent, horizon[scale]),
    {"exponent": settings.explorer_exponents, "scale": settings.explorer_scales},
    name="stepwise-preconditioner-explorer",
    labels={"exponent": "exponent $p$", "scale": "initial scale $\\alpha$"},
    start={"scale": settings.explorer_scales[1]},
    caption="Move $p$ to the right: the steps come sooner, and red bars, modes that should not be learned, appear. Then make "
    "$\\alpha$ smaller: a longer race selects better, except at $p=1$, where there is no race.",
)

# %% [markdown]
# ## Depth changes the clock
#
# With one layer, a mode waits for $\log(1/(\gamma\alpha^2))/(8\gamma)$. Scale *all* of $L\ge2$ layers by $\alpha$, and the leading
# term of the loss has degree $2L$; the wait becomes
#
# $$
# t_{1/2}\approx\frac{1}{8(L-1)\,\gamma\,\alpha^{2L-2}}.
# $$ (eq-stepwise-beyond-depth)
#
# For two layers of different scale the exact answer is an integral; only the smaller of the two has to grow, at a rate set by the
# larger. In code, `small` and `large` are the squares of the two scales, their difference `gap` is conserved, and $\lambda=\frac12$ where
# `small` has become `end`:

# %% tags=["remove-input"]
source(depth.escape_time, depth.two_layer_half_time)

# %% [markdown]
# That is why [A small network takes the steps](stepwise_mlp.py) and [A ResNet takes the steps](stepwise_resnet.py) have two knobs: $\alpha_\text{head}$ moves the staircase along a
# logarithm, $\alpha_\text{body}$ by powers.

# %%
scaling, knobs = experiments.escape_scaling(settings), experiments.two_knobs()
ledger.check("stepwise.depth-clock", scaling, at_paper_scale=False)
ledger.check("stepwise.two-knobs", knobs, at_paper_scale=True)
show(
    figures.clocks(scaling, knobs),
    name="stepwise-depth",
    caption="Left: all layers scaled by $\\alpha$; dots: random linear networks, integrated; lines: one mode with equal layers; "
    "dashed: leading law. Right: one mode of two layers; dots: integrated, lines: exact.",
)

# %% [markdown]
# Random starts wait longer than the lines: mode 1 has only a part of $\alpha$ to begin with, and two layers do not agree on a
# direction at first. The power is the same.
# Richness as a question of scale, for supervised learning, is treated by {cite:t}`atanasov2024richness`.
#
# ## Temperature
#
# Of the paper's three methods SimCLR agrees least with the embedding that its tangent kernel predicts
# ([A ResNet takes the steps](stepwise_resnet.py)). A low temperature drives towards telling every image from every other, which is not a spectral problem.
# If that is the reason, agreement must rise with $T$; that it does would not prove the reason. What earlier runs gave is in the
# ledger.

# %%
alignment = experiments.temperature_alignment(settings)
ledger.check("stepwise.simclr-temperature", alignment, at_paper_scale=False)
show(
    figures.temperature(alignment),
    name="stepwise-temperature",
    caption="MLP on digits, first seed: alignment of the trained embedding with the one predicted from its tangent kernel after "
    "training, as they are and with the mean of each view taken out.",
)

# %% [markdown]
# ## The same shape elsewhere
#
# In units in which the plateau is at 1, a singular value here obeys $\dot s=\gamma s(1-s^2)$: a double well, with 0 on its ridge
# ([Exactly solvable self-supervised learning](stepwise_linear.py)). Methods without negatives, such as BYOL, have a predictor and a stop-gradient instead; in a linear model
# their modes decouple as well {cite:p}`tian2021directpred`. With equal learning rates, no moving average and no augmentation
# noise, an eigenvalue $p$ of the predictor obeys
#
# $$
# \dot p=p^2(1-p)-\eta p
# $$ (eq-stepwise-beyond-predictor)
#
# with weight decay $\eta$. Look at the sign of the velocity near zero.

# %%
show(
    figures.two_flows(settings.predictor_decay),
    name="stepwise-two-flows",
    caption="Velocity against position; full dots attract, open ones repel. Right: without weight decay 0 is neither, and small "
    "modes leave it algebraically slowly; with it, what starts below the open dot collapses.",
)

# %% [markdown]
# Both are one equation per mode with a plateau at the end. But here everything positive grows, from however small a
# start, and small starts give clean steps; there a small start means collapse. A chapter on non-contrastive learning is to come;
# the paper is reported to note that steps are not immediately seen in BYOL.
#
# ## Where the story stops
#
# - *Are the first modes the good ones?* Nothing here varies the order. Something to try: train with `probe_dimensions` from 2 to 16 to
#   the end, and compare with 16 dimensions stopped early at the same rank.
# - *Real optimisers.* The preconditioner needs $\Gamma$. Adam rescales each weight by its own gradients, which also helps
#   what is slow; whether it costs selectivity, nothing here says.
# - *VICReg from ordinary initialisation*: whether it passes through a nuisance phase at all is not tested here.
# - *More draws, longer runs.* Under the `paper` profile two of the claims below are not met: a rare draw of VICReg 30/1/0.2
#   keeps more nuisance than allowed, and where Barlow Twins trains on after all modes are there, accuracy drifts while the rank
#   stands still, so that the two agree less in order.
# - Later work finds the same kind of dynamics in word embeddings {cite:p}`karkada2025word2vec`, in two-layer networks by alternating
#   gradient flows {cite:p}`kunin2025alternating`, at the first saddle of deep ReLU networks {cite:p}`bantzis2025saddle`, and
#   relates the sharpness of the steps to the scale of feature learning {cite:p}`atanasov2024richness`. The layerwise solution of deep
#   linear networks is older {cite:p}`saxe2014exact`.
#
# ## Exercises
#
# Each changes one number.
#
# **1.** Set `feature_scale` to 1e-8. Does the ratio of the two half times come closer to 9?

# %% tags=["hide-cell"]
small = experiments.feature_toy(settings.replace(feature_scale=1e-8), pairs["extent"])
ratio = float(small["half_time"][1] / small["half_time"][0])
before = float(toys["extent"]["half_time"][1] / toys["extent"]["half_time"][0])
Markdown(
    f"1 : {ratio:.2f} instead of 1 : {before:.2f}. The ratio is 9 times that of the logarithms of $\\gamma_js_j(0)^2$, and "
    "their difference counts less the larger they are; it goes to 9 as slowly as 1/log does."
)

# %% [markdown]
# **2.** VICReg's eps is $10^{-4}$. At what inv/var does nuisance stop growing if it is $10^{-2}$? Answer, then check:
# `nuisance_sweep` takes `eps`.

# %% tags=["hide-cell"]
wide = experiments.nuisance_sweep(settings.replace(sweep_ratios=(1.0, 2.0, 3.0)), eps=1e-2)
Markdown(
    f"At $1/(4\\sqrt{{0.01}})=2.5$; measured {claims.zero_crossings(wide).mean():.2f}, between the swept ratios. The shared direction "
    f"takes the lead at {nuisance.overtaking_ratio(1.0, 1.7, 1e-2):.2f} already."
)

# %% [markdown]
# **3.** Shuffled positives with fewer pairs: set `linear_pairs` to 100. Do the steps come earlier or later?

# %% tags=["hide-cell"]
few = controls.shuffle_control(
    tasks.photo_pairs(0, max(2 * settings.linear_dimensions, settings.linear_pairs // 5), patch=32, crop=20),
    toy.ToyConfig(dimensions=settings.linear_dimensions),
)
d = settings.linear_dimensions
last = [float(data["shuffled"]["half_time"][0, -1]) for data in (logs, few)]
gamma = [float(data["shuffled"]["spectrum"][d - 1]) for data in (logs, few)]
Markdown(
    f"The last step comes at $t={last[1]:.2g}$ instead of {last[0]:.2g}, since $\\gamma_{{{d}}}={gamma[1]:.2g}$ instead of {gamma[0]:.2g}. "
    "What a sample leaves of zero shrinks as it grows: fewer pairs are easier to memorise."
)

# %% [markdown]
# ## Claims

# %%
ledger
