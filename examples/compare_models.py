"""Compare two models from their runs: `python examples/compare_models.py [MODEL MODEL [FOLDER]]`.

Runs both models on two seeds, then uses nothing but the run directories: for runs of your own, keep the second half. Writes
FOLDER/compare.png.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure

import anchorflow as af

models = sys.argv[1:3] if len(sys.argv) > 2 else ["smollm2-135m", "tiny"]
folder = Path(sys.argv[3] if len(sys.argv) > 3 else "outputs/compare")

# Runs: complete ones are read, interrupted ones resume.
task = af.load_task("sst2")
for model in models:
    lm = af.load_model(model)
    for seed in (1, 2):
        af.run(af.Saliency(n_queries=5), lm, task, seed=seed, folder=folder / lm.name / f"seed{seed}")

# A table with one row per run, and a figure with one point per run.
runs = af.read_runs(folder)
means = runs.groupby("cell")["accuracy"].agg(["mean", "sem", "count"])
print(means.round(3).to_string())

figure = Figure(figsize=(4, 3), layout="constrained")
axes = figure.subplots()
for cell, of_cell in runs.groupby("cell"):  # the runs that differ only in their seed
    axes.errorbar(of_cell["seed"], of_cell["accuracy"], of_cell["accuracy_stderr"], fmt="o", capsize=3, label=cell)
axes.set(xlabel="seed", ylabel="accuracy ± standard error", ylim=(0, 1.05), xticks=sorted(set(runs["seed"])))
axes.legend()
figure.savefig(folder / "compare.png", dpi=150)
print(f"wrote {folder / 'compare.png'}; `anchorflow compare` tests such differences query by query")
