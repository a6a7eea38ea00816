"""The library in one script: a run, a tap, a table of runs: `python examples/library.py [MODEL] [FOLDER]`."""

import sys
from dataclasses import replace
from pathlib import Path

import torch

import anchorflow as af

model = sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m"
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "outputs/library")
folder.mkdir(parents=True, exist_ok=True)

# A model and a task: options of conf/, hub ids, directories.
lm = af.load_model(model)
task = af.load_task("sst2")

# An experiment is an object with settings; its result has metrics, curves and figures.
result = af.run(af.Saliency(n_queries=10), lm, task, seed=42)
print({name: round(value, 3) for name, value in result.metrics.items()})
result.plot().savefig(folder / "saliency_shares.png")

curves = result.to_pandas().pivot(index="at", columns="name", values="value")
print(curves[["S_wp_share", "S_pq_share"]].round(2))


# A tap reads or changes the attention of every layer, for a block.
def blind_to_the_first_token(attention: af.Attention, attend: af.Attend) -> torch.Tensor:
    mask = attention.mask.clone()
    first = 1 if mask.shape[-2] == mask.shape[-1] else 0  # the first token itself has nothing else to see
    mask[..., first:, 0] = torch.finfo(mask.dtype).min
    return attend(replace(attention, mask=mask))


classification = af.Classification(n_queries=20)
plain = af.run(classification, lm, task)
with af.tapped(lm, blind_to_the_first_token):
    blind = af.run(classification, lm, task)
print(f"accuracy {plain.metrics['accuracy']:.2f}, blind to the first token {blind.metrics['accuracy']:.2f}")

# A run with a folder leaves what `python launch.py` leaves, and read_runs makes a table of many.
for seed in (1, 2):
    af.run(classification, lm, task, seed=seed, folder=folder / f"seed{seed}")
print(af.read_runs(folder)[["experiment", "model", "dataset", "seed", "accuracy"]].to_string(index=False))
