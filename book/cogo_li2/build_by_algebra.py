# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Building solutions by algebra
#
# **What the paper claims** {cite}`tian2025cogo`. In Fourier coordinates the loss of a two-layer network with quadratic
# units is a polynomial in a few sums over hidden nodes, the *sum potentials*. Networks can be added and multiplied, and
# every sum potential respects both. So a network that solves $x+y$ exactly need not be trained: it is a product of two
# small ones, each of which removes part of what is in the way. Three nodes times two make six per frequency; two times two
# make four, with a remainder that some other node has to carry.
#
# **What you will see.** No training at all. Exact networks are written down and run on the whole table; the loss of each
# is compared with what the algebra says, including the constructions that fail.

# %% tags=["parameters"]
modulus = 7  # d of the example that is drawn
moduli = [5, 7, 23]  # where every construction is checked
groups = [[3, 5], [4, 4], [2, 2, 2], [5, 7]]  # other Abelian groups, as orders of their cyclic factors
large_modulus = 127  # solved instead of trained
widths = [4, 30]  # hidden nodes of the random networks for Theorem 1
draws = 20  # random networks, and random angles, per case
path_points = 201  # points on the path of Theorem 5
factor = "nu"  # block that multiplies a solution on that path: "nu", "syn", "xi", …
explorer_angles = [15, 45, 75]  # free angles in the explorer, degrees
seed = 0

# %% tags=["hide-input"]
import torch
from IPython.display import Markdown

from learndyn.cogo_li2 import algebra, dynamics, exact_solutions, norms, potentials
from learndyn.cogo_li2 import figures_build_by_algebra as figures
from learndyn.cogo_li2.algebra import Family
from learndyn.cogo_li2.claims import build_by_algebra as claims
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.settings_build_by_algebra import BuildByAlgebra
from learndyn.core.claims import Ledger
from learndyn.core.device import generator
from learndyn.core.explorer import explore
from learndyn.core.plotting import show, use_style
from learndyn.core.source import source

settings = BuildByAlgebra.from_notebook(globals())
ledger = Ledger("cogo_li2", "build_by_algebra", claims.CLAIMS)
group = settings.group
use_style()

# %% [markdown]
# ## A network that nobody trained
#
# Six hidden nodes for each frequency, from a formula derived below. On the left are its answers to all pairs $(x,y)$; on
# the right, the nodes of one frequency, placed at the phases of their two input coefficients. Look at their arrangement:
# three points, twice.

# %%
network = algebra.build(group, algebra.everywhere(group, algebra.ORDER_6))
measured = exact_solutions.evaluate(group, network)
Markdown(f"{measured.width} hidden nodes, loss {measured.loss:.0e}, accuracy {measured.accuracy:.0%}.")

# %% tags=["hide-input"]
show(
    figures.first_network(group, network),
    name="first_network",
    caption="Left: the answer to every pair $(x, y)$, green where right. Right: the six hidden nodes of one frequency on "
    "the torus of input phases: three points on a diagonal (rust), and the same three shifted (indigo).",
)

# %% [markdown]
# ## Theorem 1: the loss is a budget
#
# Node $j$ computes $h_j(x,y)=(w_a[j,x]+w_b[j,y])^2$ and the output is $o_z=\sum_j w_c[z,j]\,h_j$. The loss is the mean
# over all $d^2$ inputs of $\lVert\tilde o-\tilde e_{x+y}\rVert^2$, where the tilde subtracts the mean over $z$. Write
# $z_{ak},z_{bk},z_{ck}$ for the Fourier coefficients of the three weight vectors of a node ([notation](index.md)), and
#
# $$
# \begin{aligned}
# r_{k_1k_2k}&=\sum_j z_{ak_1j}\,z_{bk_2j}\,z_{ckj},\\
# r_{p,k_1,k_2,k}&=\sum_j z_{pk_1j}\,z_{pk_2j}\,z_{ckj},\quad p\in\{a,b\}.
# \end{aligned}
# $$ (eq-build-potentials)
#
# Squaring a wave multiplies characters, so only such sums enter the output. With no $k=0$ components,
#
# $$
# \begin{aligned}
# \ell=\frac1d\sum_{k\ne0}\Bigl\{&\underbrace{\lvert r_{kkk}-1\rvert^2}_{R_g}
# +\underbrace{\sum_{(k_1,k_2)\ne(k,k)}\lvert r_{k_1k_2k}\rvert^2}_{R_c}
# \\&+\underbrace{\tfrac14\Bigl\lvert\sum_{p,k'}r_{p,k',-k',k}\Bigr\rvert^2}_{R_n}
# +\underbrace{\tfrac14\sum_{m\ne0}\sum_p\Bigl\lvert\sum_{k'}r_{p,k',m-k',k}\Bigr\rvert^2}_{R_*}\Bigr\}.
# \end{aligned}
# $$ (eq-build-loss)
#
# Loss zero follows from $r_{kkk}=1$ and all the rest zero. The four families: the *goal* $R_g$; *cross* terms $R_c$, waves
# in the wrong combination of $x$ and $y$; the *bias* $R_n$, an output that does not depend on the input; and *squares*
# $R_*$, waves in $x$ alone or $y$ alone. This is what is in the braces at one $k$. `r[k1, k2]` is $r_{k_1k_2k}$, and `half_a[m]`
# is $\tfrac12\sum_{k'}r_{a,k',m-k',k}$, from the coefficients of $w_a^2$ in `squares`. What has an index 0 in `r` vanishes
# without $k=0$ components:

# %% tags=["remove-input"]
source(potentials.terms_at)

# %% [markdown]
# Below, one bar per frequency. Random weights lose almost everything on the goal; the next two networks meet the goal and
# pay elsewhere; the last one pays nothing.

# %%
weights = torch.randn(
    3, measured.width, group.size, generator=generator(settings.seed, "random"), dtype=torch.float64
)
cases = {
    "random weights": group.to_spectrum(0.2 * weights),
    "order 3": algebra.build(group, algebra.everywhere(group, algebra.ORDER_3)),
    "order 4": algebra.build(group, algebra.everywhere(group, algebra.ORDER_4)),
    "order 6": network,
}
budgets = {name: potentials.loss_budget(group, spectrum) for name, spectrum in cases.items()}

# %% tags=["hide-input"]
show(
    figures.budgets(budgets),
    name="budgets",
    caption="The loss of four networks, one bar per frequency, the sum above them. Three nodes per frequency leave the "
    "squares $R_*$, four leave the bias $R_n$, six leave nothing.",
)

# %% [markdown]
# Two ways to the same number: run the network on the table, or add up potentials. Training does not keep weights free
# of $k=0$ components, and then {eq}`eq-build-loss` lacks the products of those components with the waves. Our
# `loss_budget` has them (its docstring gives the formula); the paper's form does not. Compare the two rows.

# %%
errors = exact_solutions.decomposition_errors(
    settings.all_groups, settings.widths, draws=settings.draws, seed=settings.seed
)
ledger.check("cogo.theorem1", errors, at_paper_scale=True)
ledger.check("cogo.theorem1-constant", errors, at_paper_scale=True)
show(
    figures.decomposition(errors),
    name="decomposition",
    caption="Relative difference from the loss of the network itself, standard normal weights, each point one network. "
    "On weights without $k=0$ components the paper's form is exact too.",
    source="Theorem 1",
)

# %% [markdown]
# ## Theorems 2 and 3: networks form a semiring, potentials are homomorphisms
#
# The *sum* of two networks puts their nodes side by side. The *product* pairs every node of one with every node of the
# other and multiplies coefficients:
#
# $$
# (z*z')_{pk,(j,j')}=z_{pkj}\,z'_{pkj'} .
# $$ (eq-build-product)
#
# An element is an array `[part, node]`, with a further axis for the characters if it is a whole network:

# %% tags=["remove-input"]
source(algebra.add, algebra.multiply)

# %% [markdown]
# Both are commutative up to the order of nodes, the empty network is 0, and one node with all coefficients 1 is 1.
# In a potential the product sum factorises, so for every one of them
#
# $$
# \begin{aligned}
# r(z+z')&=r(z)+r(z'),\\ r(z*z')&=r(z)\,r(z').
# \end{aligned}
# $$ (eq-build-homomorphism)

# %%
gaps = exact_solutions.homomorphism_gap(draws=settings.draws, seed=settings.seed)
ledger.check("cogo.theorem3", gaps, at_paper_scale=True)
Markdown(f"Random elements, all ten potentials: sums agree to {gaps[0]:.0e}, products to {gaps[1]:.0e}.")

# %% [markdown]
# A product vanishes where either factor does: *zero sets unite*, and a goal of 1 stays 1. What is needed is a factor for
# each potential to be killed. Let $u$ be a single node with coefficients on the unit circle, so that every $r(u)$ is a
# phase. Then $r(1+u+\dots+u^{m-1})=1+r(u)+\dots+r(u)^{m-1}$ is 0 if $r(u)$ is an $m$-th root of unity other than 1, and
# $m$ if $r(u)=1$. Polynomials in a network are evaluated by Horner's rule, as those in a number are:

# %% tags=["remove-input"]
source(algebra.polynomial, algebra.geometric)

# %% [markdown]
# With $u=(\omega_3,\omega_3,\omega_3)$ the goal is 1 and seven others are cube roots of unity:

# %%
unit = algebra.OMEGA3 * algebra.one()
syn = algebra.geometric(unit, 3)  # 1 + u + u²
assert algebra.equivalent(syn, algebra.BLOCKS["syn"].build(Family("syn")))
elements = {
    "$u$": unit,
    r"$z_{\mathrm{syn}}=1+u+u^2$": syn,
    r"$z_\nu$": Family("nu", nu=0.7).element(),
    r"$z_\nu*z_{\mathrm{syn}}$": algebra.multiply(Family("nu", nu=0.7).element(), syn),
}

# %% tags=["hide-input"]
show(
    figures.zero_sets(elements),
    name="zero_sets",
    caption="The ten potentials of one frequency, bars for conjugates; disc area is the modulus per node. The goal "
    "(first column) survives; the third row kills exactly the two that the second leaves, and the product has both.",
    source="Theorem 3",
)

# %% [markdown]
# ## Table 1: the building blocks
#
# The table is printed by the solver, not typed: each block is evaluated at two generic settings of its free parameters,
# and a ring marks a potential that vanishes at both. Other entries are moduli, divided by the order, at one of them. The
# last three rows are the products that matter. Both of order 6 kill everything. The one of order 4 kills all but the
# bias $R_n$, whose modulus is $1/\sqrt2$ whatever its parameter.

# %%
table = algebra.construction_table()
for row in claims.TABLE_1:
    ledger.check(f"cogo.table1-{row}", table, at_paper_scale=True)
figures.construction_html(table)

# %% [markdown]
# Here $\omega_3=e^{2\pi i/3}$, and $\nu,\xi,\alpha,\beta$ are free on the unit circle. Each block is divided by the cube
# root of its $\sum abc$, and may be multiplied by a node $(y_a,y_b,\overline{y_ay_b})$, two more free phases.
#
# ## Whole networks
#
# Put a product on every frequency. Nodes of order 4 leave an output bias $b_k=\sum_jC_{kj}\sum_{k'}(|A_{k'j}|^2+|B_{k'j}|^2)$.
# It can be hosted by the six nodes of an order-6 frequency $k_0$: their hidden units sum to the same number for every
# input, so giving all six the same extra output
#
# $$
# C_{kj}\leftarrow C_{kj}-\frac{b_k}{\sum_{j\in k_0}\sum_{k'}(|A_{k'j}|^2+|B_{k'j}|^2)}
# $$ (eq-build-host)
#
# removes $b_k$ and disturbs nothing. (Order-4 nodes cannot do this: their units do not sum to a constant.) So the
# condition "every potential of $R_n$ is zero" is sufficient but not necessary; only the sum in {eq}`eq-build-loss` is.
# All free angles are drawn at random here. Compare the first six rows of each $d$ with the last three.

# %%
solutions = exact_solutions.solution_table(settings.moduli, seed=settings.seed)
ledger.check("cogo.global-order6", solutions, at_paper_scale=True)
ledger.check("cogo.global-mixed", solutions, at_paper_scale=True)
ledger.check("cogo.global-constant-node", solutions, at_paper_scale=True)
ledger.check("cogo.global-memorisation", solutions, at_paper_scale=True)
ledger.check("cogo.partial-order3", solutions, at_paper_scale=True)
words = {"d": "d", "construction": "construction", "width": "nodes", "loss": "loss"}
words |= {"predicted_loss": "predicted", "accuracy": "accuracy", "squared_norm": "norm²"}
figures.networks_html(solutions, words)

# %% [markdown]
# *Memorisation* needs no insight: node $(i,j)$ answers when $x=i$ and $y=j$. It is a product of two polynomials of degree
# $d-1$, and it costs $d^2$ nodes.
#
# ### What the bias does when nobody carries it
#
# Take order 4 at $m$ frequencies, order 6 at the rest, and leave the bias alone. Each order-4 frequency then costs $4/d$.
# With order 4 everywhere the loss is $2(d-1)/d$, twice that of a network that outputs nothing. The answers suffer less:
# the bias is the same for all inputs and need not change the largest output, so accuracy alone can make order 4 look like
# a solution. It depends on the angles; the bands show all draws.

# %%
left_alone = exact_solutions.unhosted_bias(settings.moduli, draws=settings.draws, seed=settings.seed)
ledger.check("cogo.partial-bias", left_alone, at_paper_scale=True)
ledger.check("cogo.partial-order4", left_alone, at_paper_scale=True)
show(
    figures.unhosted(left_alone),
    name="unhosted",
    caption="Order 4 at a share of the frequencies, order 6 at the others, bias left alone. Left: loss (dots: networks, "
    "lines: $4m/d$). Right: share of right answers, mean and range over random angles. With a host all would be at loss "
    "0 and accuracy 1.",
)

# %% [markdown]
# ### Other Abelian groups
#
# Nothing above used that the group is cyclic of odd order, except that $k\ne-k$. Where $k=-k$ coefficients are real, and
# the two nodes $(1,1,1),(1,-1,-1)$ suffice. At characters of order 3 and 4 some potentials coincide, which makes room
# for smaller solutions; [What the theory predicts beyond the paper](beyond_the_paper.py) searches for them.

# %%
in_groups = exact_solutions.group_table([AbelianGroup(orders) for orders in settings.groups])
ledger.check("cogo.groups", in_groups, at_paper_scale=True)
figures.networks_html(
    in_groups, {"group": "group", "d": "d", "width": "nodes", "loss": "loss", "accuracy": "accuracy"}
)

# %% [markdown]
# ## Theorem 5: the larger solutions are joined to the smaller ones
#
# If $z'$ and $y*z'$ both solve the task, then so does everything on
#
# $$
# z(t)=\bigl(t^{1/3}\cdot1+(1-t)^{1/3}\,y\bigr)*z',\qquad 0\le t\le1,
# $$ (eq-build-path)
#
# because the bracket has $r_{kkk}=t+(1-t)=1$, and what vanishes for $z'$ vanishes for the product. With `base` for $z'$:

# %% tags=["remove-input"]
source(dynamics.theorem5_path)

# %% [markdown]
# Take $z'$ of order 6
# everywhere and multiply it by the block named in `factor`. Two straight lines in weight space do the same job without
# the algebra: one onto the first copy of $z'$ inside $y*z'$, one onto new nodes. Look at the loss first, then at the norm.

# %%
y = exact_solutions.at_every_character(group, Family(settings.factor).element())
times = torch.linspace(0, 1, settings.path_points, dtype=torch.float64)
paths = {
    "Theorem 5": dynamics.along_theorem5_path(group, y, network, times),
    "straight, same nodes": exact_solutions.along_straight_line(group, y, network, times, overlaid=True),
    "straight, new nodes": exact_solutions.along_straight_line(group, y, network, times, overlaid=False),
}

# %%
path = paths["Theorem 5"]
ledger.check("cogo.theorem5-path", claims.Paths(path, paths["straight, same nodes"]), at_paper_scale=True)
ledger.check("cogo.theorem5-norm", path, at_paper_scale=True)
show(
    figures.theorem5(paths),
    name="theorem5",
    caption="From $y*z'$ ($t=0$) to $z'$ ($t=1$). Top: loss, log scale; what lies below $10^{-20}$ is rounding. Bottom: "
    "squared norm, with the starting value dotted.",
    source="Theorem 5",
)

# %% [markdown]
# The squared norm on the path is $t^{2/3}\lVert z'\rVert^2+(1-t)^{2/3}\lVert y*z'\rVert^2$: concave, and steep at $t=0$.
# So the theorem says that the set of solutions is connected there; it does not say that weight decay can roll down this
# path. That it does reach low order is seen in runs ([One training run under the microscope](one_run.py)), and starts from the fact that low order is lighter.
#
# ## Why low order: norms
#
# In a balanced solution of order $n$ all coefficients have modulus $s_n=(2dn)^{-1/3}$, so a frequency costs
#
# $$
# E_n=6nd\,s_n^2\propto n^{1/3}
# $$ (eq-build-norm)
#
# in $\lVert w_a\rVert^2+\lVert w_b\rVert^2+\lVert w_c\rVert^2$. Hosting the bias of an order-4 frequency costs the hosts
# something as well. Grey is the norm of something that does not solve the task.

# %% tags=["hide-input"]
frequencies = (group.size - 1) // 2
totals = {"order 4": frequencies * norms.frequency_norm(4, group.size)}
totals["order 4, constant node"] = totals["order 4"] + norms.dc_host_norm(frequencies, group.size)
for six in range(1, frequencies):
    totals[f"{frequencies - six} × order 4, {six} × order 6"] = exact_solutions.solve(
        group, six
    ).measured.squared_norm
totals["order 6"] = measured.squared_norm
totals["memorisation"] = float(algebra.squared_norm(group, algebra.memorisation(group, include_dc=False)))
ledger.check("cogo.norms-d7", totals, at_paper_scale=True)
show(
    figures.norm_bars(totals, group.size),
    name="norms",
    caption="Squared norm of the exact networks of one group. The grey bar leaves the bias alone and is no solution; each "
    "mixed bar includes the cost of hosting.",
)

# %% [markdown]
# With $n_6$ frequencies of order 6 that share the hosting, the total is $2d\,s_6^2f(n_6)$ with
#
# $$
# \begin{aligned}
# f(n_6)&=(K-n_6)\Bigl(12\cdot1.5^{2/3}+\frac3{n_6}\Bigr)\\
# &\quad+18\,n_6,\qquad K=\frac{d-1}2,
# \end{aligned}
# $$ (eq-build-law)
#
# least near $\sqrt{1.318\,K}$: of order 6 there should be some, and ever fewer in proportion as $d$ grows. (This law is ours, not the
# paper's.)
#
# ### Solve instead of train

# %%
large = AbelianGroup((settings.large_modulus,))
solved = exact_solutions.solve(large)
ledger.check("cogo.solve-instead", claims.Solving(solved, large.size), at_paper_scale=True)
Markdown(
    f"d = {large.size}: {solved.measured.width} nodes, {solved.order_6} frequencies of order 6, built in "
    f"{1000 * solved.seconds:.0f} ms. Loss {solved.measured.loss:.0e}, accuracy {solved.measured.accuracy:.0%}, "
    f"squared norm {solved.measured.squared_norm:.1f}."
)

# %% [markdown]
# The authors train this modulus for 10,000 epochs and five seeds. At weight decay $5\cdot10^{-5}$ their runs end with 53
# frequencies of order 6 in five runs (Figure 4), the dotted line below; our least norm is at the dot. Letting the hosts
# trade the scale of their inputs against that of their outputs saves a little more.

# %%
curve = exact_solutions.norm_by_order6(large.size)
ledger.check("cogo.norm-law", curve, at_paper_scale=True)
show(
    figures.norm_law(curve, trained=53 / 5 if large.size == 127 else None),
    name="norm_law",
    caption="Squared norm of exact networks by the number of order-6 frequencies: built (dots) and by the law (lines). "
    "Dotted: mean number at the end of the published runs.",
)

# %% [markdown]
# ## Build your own solution
#
# $\mathbb Z_5$ has two frequencies; choose a family for each. Rings in the upper panel are potentials at zero, discs are
# not (the first column is the goal, the last the total output bias). Try: order 3 twice (which lights stay on, and are
# the answers right?); order 4 twice, then host the bias; order 4 and 6, and watch the $R_n$ lights stay on while the
# bias goes out. The angle moves the nodes along the solution without lighting anything.

# %% tags=["hide-input"]
small = AbelianGroup((5,))


def draw(first: str, second: str, angle: int, bias: str):
    return figures.solution_card(small, (first, second), angle, bias)


explore(
    draw,
    {
        "first": list(figures.CHOICES),
        "second": list(figures.CHOICES),
        "bias": ["left alone", "hosted"],
        "angle": settings.explorer_angles,
    },
    labels={"first": "order at $k=1$", "second": "order at $k=2$", "angle": "free angles (degrees)"},
    start={"first": "4: ν=i·ξ", "second": "6: ν·syn"},
    name="build_your_own",
    caption="A family per frequency of $Z_5$. Lights: potentials (ring: zero). Below: nodes on the torus of input phases, "
    "and the answers. The hosts are the order-6 nodes if there are any, else one constant node.",
)

# %% [markdown]
# ## Where the story stops
#
# - The algebra gives solutions; it does not say that there are no others. [What the theory predicts beyond the paper](beyond_the_paper.py) searches numerically
#   and finds that the balanced ones at orders 4 and 6 are these.
# - Everything is about the full table. A network trained on nine tenths of it has no such closed form; that it ends at the
#   same solutions is seen in [One training run under the microscope](one_run.py) and [What training finds](what_training_finds.py).
# - The product uses that units are quadratic. For other activations potentials of higher degree enter.
# - The paper's $R_n=0$ is stricter than needed, and trained networks use the difference: they host.
# - {cite:t}`morwani2024feature` study the same network by margin maximisation and also find that every frequency is used.
# - To try next: set `groups` to `[[3, 3], [9]]`, or `factor` to `"syn_alphabeta"`.
#
# ## Exercises
#
# **1.** Set `factor = "syn"`, so that the path starts at order 18. How does the climb in norm compare? Use that
# $\lVert y*z'\rVert^2\propto n^{1/3}$.

# %% tags=["hide-cell"]
for name in ("nu", "syn"):
    other = exact_solutions.at_every_character(group, Family(name).element())
    norm = dynamics.along_theorem5_path(group, other, network, times)["norm"].values
    top = norm.argmax()
    print(f"{name}: starts at {norm[0]:.1f}, top {norm[top] / norm[0]:.2f} times that, at t = {times[top]:.2f}")

# %% [markdown]
# :::{dropdown} What it means
# The start is heavier by $(3/2)^{1/3}$, and the climb from there is smaller and shorter: a heavy start has more to lose.
# :::
#
# **2.** Which host is cheaper, order-6 frequencies in the best number or a constant node? Set `modulus` to 7, 23, 127.

# %% tags=["hide-cell"]
for d in (7, 23, 127):
    k = (d - 1) // 2
    n6 = int(norms.best_order6(k, integer=True))
    constant = k * norms.frequency_norm(4, d) + norms.dc_host_norm(k, d)
    hosted = norms.solution_norm(k - n6, n6, d)
    print(f"d = {d}: {hosted:.1f} with {n6} hosts of order 6, {constant:.1f} with a constant node")

# %% [markdown]
# :::{dropdown} What it means
# From some $d$ on the constant node is the lighter one, and yet no trained network has it ([One training run under the microscope](one_run.py) measures the
# constant parts). Training does not compute the least norm; it drifts to what it can reach from where it is.
# :::
#
# **3.** Add `[9]` to `groups`. Which character of $\mathbb Z_9$ is special, and does order 6 still work there?

# %% tags=["hide-cell"]
nine = AbelianGroup((9,))
for k in nine.half().characters.tolist():
    print(f"character {k} has order {nine.order_of(k)}")
figures.networks_html(
    exact_solutions.group_table([nine]),
    {"group": "group", "width": "nodes", "loss": "loss", "accuracy": "accuracy"},
)

# %% [markdown]
# :::{dropdown} What it means
# $k=3$ has order 3, so $2k=-k$ there: two conditions become one. Order 6 satisfies both separately and still works.
# :::
#
# ## Claims

# %%
ledger
