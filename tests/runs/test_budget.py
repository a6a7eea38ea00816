"""Batches as large as memory allows: halved where it runs out, the same records whatever the budget."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from anchorflow.data import Task
from anchorflow.errors import UserError
from anchorflow.experiments import Classification, Experiment, LabelRelationships, Saliency
from anchorflow.models import LanguageModel, Tiny
from anchorflow.results import Record
from anchorflow.runs import Budget
from anchorflow.runs import budget as budgets
from anchorflow.runs.compute import Memory, Shard, compute
from anchorflow.settings import configurable
from tests.experiments.test_devices import assert_close


@pytest.fixture(scope="module")
def small() -> LanguageModel:
    return Tiny(layers=2).load("cpu", "float64")


@configurable
class Greedy(Classification):
    """Needs more memory than there is for a batch of more than `fits` prompts."""

    fits: int = 3

    def map(
        self, lm: LanguageModel, work: Any, batches: Iterable[Sequence[Any]], folder: Path, batch_tokens: int
    ) -> Iterator[list[Record]]:
        for batch in batches:
            if len(batch) > self.fits:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            yield from super().map(lm, work, [batch], folder, batch_tokens)


def run(
    experiment: Experiment, lm: LanguageModel, task: Task, folder: Path, budget: Budget, shard: Shard | None = None
) -> tuple[list[Record], int]:
    found = compute(experiment, lm, task, Memory(folder), seed=1, batch_tokens=budget, shard=shard)
    return found.records, found.batch_tokens


def test_where_memory_runs_out_the_batch_is_halved_and_said_and_no_number_changes(
    small: LanguageModel, task: Task, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected, _ = run(Classification(n_queries=10), small, task, tmp_path, 10_000)
    found, tokens = run(Greedy(n_queries=10), small, task, tmp_path, 10_000)
    assert_close(found, expected)
    said = [record.message for record in caplog.records if "out of memory" in record.message]
    assert said[0] == "out of memory with batch_tokens=10000; trying 5000"
    assert len(said) == len(set(said))
    assert tokens == 10_000 // 2 ** len(said)


def test_a_prompt_that_does_not_fit_alone_is_an_error_that_says_what_to_do(
    small: LanguageModel, task: Task, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="out of memory with one prompt in a batch"):
        run(Greedy(n_queries=10, fits=0), small, task, tmp_path, 10_000)


def test_another_error_is_none_of_memory(small: LanguageModel, task: Task, tmp_path: Path) -> None:
    @configurable
    class Broken(Classification):
        def map(self, *_: Any) -> Iterator[list[Record]]:  # type: ignore[override]
            raise RuntimeError("size mismatch")
            yield

    with pytest.raises(RuntimeError, match="size mismatch"):
        run(Broken(n_queries=4), small, task, tmp_path, 100)


@pytest.mark.parametrize(
    "experiment", [Saliency(n_queries=8), Classification(n_queries=8), LabelRelationships(repetitions=4)]
)
def test_the_same_numbers_for_every_budget(
    experiment: Experiment, small: LanguageModel, task: Task, tmp_path: Path
) -> None:
    expected, tokens = run(experiment, small, task, tmp_path, "auto")
    assert tokens == 1024, "on the CPU"
    for budget in (1, 300, 100_000):
        assert_close(run(experiment, small, task, tmp_path, budget)[0], expected)


def test_shards_share_the_work_whatever_fits_the_machine_of_each(
    small: LanguageModel, task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = Saliency(n_queries=12, keep_examples=0)
    parts = []
    for i, fits in enumerate((64, 1024, 9999)):
        monkeypatch.setattr(
            sys.modules["anchorflow.runs.compute"], "choose", lambda budget, lm, experiment, fits=fits: fits
        )
        found, tokens = run(experiment, small, task, tmp_path, "auto", Shard(i + 1, 3))
        assert tokens == fits
        parts.append(found)
    shared = sorted(record["query"] for part in parts for record in part)
    assert shared == sorted(example.row for example in task.test)


def test_auto_is_what_fits_the_free_memory_of_a_gpu(small: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a GPU: `lm` says that it is on one that has so much memory left."""

    class There:
        device = torch.device("cuda")
        dtype, source = small.dtype, small.source

        class model:  # noqa: N801 - an attribute
            @staticmethod
            def parameters() -> list[Any]:
                class Weight:
                    device = torch.device("cuda")

                return [Weight()]

    lm: Any = There()
    chosen = {}
    for gigabytes in (2, 4, 8, 80):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=gigabytes * 2**30: (free, 80 * 2**30))
        chosen[gigabytes] = budgets.choose("auto", lm, Saliency())
    assert list(chosen.values()) == sorted(chosen.values())
    assert chosen[2] < chosen[80] <= budgets.MOST
    assert budgets.choose(77, lm, Saliency()) == 77
