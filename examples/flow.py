"""From a prompt to the flow picture: `python examples/flow.py [MODEL] [FOLDER]`.

Writes FOLDER/flow.png: the strongest flows between the tokens of one prompt (Label Words are Anchors, fig. 1), in a
shallow, a middle and a deep layer.
"""

import sys
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Arc

import anchorflow as af
from anchorflow.experiments.flows import FlowExample, read_examples

STRONGEST = 40
WORDS_TO_LABEL, LABEL_TO_TARGET, OTHER = "tab:blue", "tab:orange", "lightgray"

model = sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m"
folder = Path(sys.argv[2] if len(sys.argv) > 2 else "outputs/flow")

# The prompt: two demonstrations and a query. A label word includes the blank before it.
demonstrations = (
    af.Example(0, "A warm and lovely film.", 1),
    af.Example(1, "Dull from start to finish.", 0),
)
task = af.Task(
    name="my_prompt",
    template=af.Template("Review: {text}\nSentiment:{label}"),
    label_words=(" Negative", " Positive"),
    train=demonstrations,
    test=(af.Example(0, "I would gladly watch it again.", 1, demonstrations=demonstrations),),
)

lm = af.load_model(model)
result = af.run(af.Saliency(n_queries=1, keep_examples=1), lm, task, folder=folder)
(example,), _ = read_examples(folder)
predicted = task.labels[max(range(2), key=lambda label: example.probs[label])]
print(f"predicted {predicted}, true {task.labels[example.label]}")


def colour(example: FlowExample, to: int, start: int) -> str:
    """The kind of a flow, by the positions that it leads to and starts from."""
    anchors = [demonstration.anchor for demonstration in example.demonstrations]
    if to in anchors:
        return WORDS_TO_LABEL
    return LABEL_TO_TARGET if to == len(example.tokens) - 1 and start in anchors else OTHER


layers = len(example.strongest)
figure = Figure(figsize=(0.2 * len(example.tokens) + 1, 8), layout="constrained")
panels = figure.subplots(3, 1, sharex=True)
for axes, layer in zip(panels, (layers // 6, layers // 2, layers - 1 - layers // 6), strict=True):
    flows = example.strongest[layer][:STRONGEST]
    for to, start, value in reversed(flows):  # the strongest is drawn last, on top
        arc = Arc(((to + start) / 2, 0), to - start, to - start, theta1=0, theta2=180, color=colour(example, to, start))
        arc.set_linewidth(4 * value / flows[0][2])
        axes.add_patch(arc)
    axes.set(xlim=(-1, len(example.tokens)), ylim=(0, len(example.tokens) / 2), yticks=[], ylabel=f"layer {layer + 1}")
panels[-1].set_xticks(range(len(example.tokens)), [token.replace("\n", "↵") for token in example.tokens], rotation=90)
panels[0].set_title("blue: words → label words; orange: label words → target", fontsize="medium")
figure.savefig(folder / "flow.png", dpi=150)
print(f"wrote {folder / 'flow.png'}")
