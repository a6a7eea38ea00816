"""Table 5: the most probable next words before and after isolation, of what runs kept."""

from itertools import cycle
from pathlib import Path

import pytest

from anchorflow.experiments.isolation import KINDS
from anchorflow.report.cells import into_cells
from anchorflow.report.collect import collect
from anchorflow.report.views.isolation import five_words
from tests.report.made_up import made_up
from tests.report.runs import write_run


@pytest.mark.parametrize(("places", "k"), [(3, 3), (8, 5)])
def test_a_row_for_every_kind_of_isolation_at_five_layers_or_the_most(tmp_path: Path, places: int, k: int) -> None:
    names = ["full", *(f"{kind}_{layers}" for kind in KINDS for layers in range(1, places + 1))]
    variants = {name: {"probs": [0.2, 0.8] if name == "full" else [0.9, 0.1], "top5": [1, 2]} for name in names}
    kept = {"query": 7, "label": 1, "variants": variants, "words": {name: ["\n", f" {name}"] for name in names}}
    result = made_up("isolation", cycle([0.5]), places=places)
    said = {"experiment": {"version": "2"}, "prompts": ["sst2", "{text}{label}", [" Negative", " Positive"], "\n"]}
    write_run(
        tmp_path / "a", "isolation", result, [{"query": 6, "label": 0, "variants": variants}, kept], identity_of=said
    )
    write_run(tmp_path / "b", "isolation", result, [], dataset="trec")  # which kept none
    cells, _ = into_cells(collect([tmp_path]).runs)
    (sheet,) = five_words(cells)
    assert sheet.columns[-6:] == ["seed", "query", "label", "isolated", "predicted", "most probable words"]
    rows = [list(row)[-6:] for row in sheet.rows]
    assert rows[0] == ["42", "7", "Positive", "nothing", "Positive", "'\\n', ' full'"]
    assert rows[1] == [
        "42",
        "7",
        "Positive",
        f"label words, first {k} layers",
        "Negative",
        f"'\\n', ' label_first_{k}'",
    ]
    assert len(rows) == 5
    assert five_words([cell for cell in cells if cell.dataset == "trec"]) == []
