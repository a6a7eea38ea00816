"""The real command line, on tiny models: what a user types, and what is there afterwards."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import write_dataset
from tests.launching import command, failed_politely, launch, on_tiny, records, tiny, without_timing
from tests.tracking.recorded import inspect, of_kind

pytestmark = pytest.mark.slow

FILES = {"result.json", "records.jsonl", "status.json", "figures", ".hydra", "launch.log"}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "data", train=12, test=8)


def test_help_is_a_page_of_our_own_and_loads_nothing_heavy(tmp_path: Path) -> None:
    done = launch("--help", cwd=tmp_path)
    assert done.returncode == 0
    for part in ("model: ", "smollm2-135m", "dataset: ", "experiment: ", "tracking: ", "novel", "KEY=VALUE"):
        assert part in done.stdout
    assert done.stdout.count("python launch.py") >= 5
    assert not list(tmp_path.iterdir())
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", *command("--help")[1:]], cwd=tmp_path, capture_output=True, text=True
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in traced.stderr.splitlines()}
    assert "anchorflow.help" in imported
    assert not imported & {"torch", "transformers", "datasets", "wandb", "matplotlib", "numpy", "pydantic", "hydra"}


@pytest.mark.parametrize("experiment", ["saliency", "classification"])
@pytest.mark.parametrize("family", ["gpt2", "gptj", "llama"])
def test_a_run_leaves_what_the_contract_says(tmp_path: Path, data: Path, experiment: str, family: str) -> None:
    done = launch(*tiny(data, f"experiment={experiment}", f"model.family={family}"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    run = tmp_path / "run"
    assert {path.name for path in run.iterdir()} >= FILES
    result = without_timing(run)
    assert (result["schema"], result["experiment"], result["seed"]) == (1, experiment, 42)
    assert set(result) == {
        *("schema", "experiment", "identity", "identity_of", "seed", "metrics", "stderr", "curves", "tables", "counts"),
        *("config", "data", "environment", "notes", "unit"),
    }
    assert 0 <= result["metrics"]["accuracy"] <= 1
    assert result["data"]["source"] == "directory"
    assert set(result["data"]["sha256"]) == {"train", "test"}
    assert result["environment"]["dtype"] == "float32"
    assert result["counts"] == {"queries": 6, "skipped": 0}
    assert len({r["query"] for r in records(run)}) == 6
    for r in records(run):
        assert set(r) >= {"query", "label", "variants"}
        assert abs(sum(r["variants"]["full"]["probs"]) - 1) < 1e-5
        assert len(r["variants"]["full"]["top5"]) == 5
    if experiment == "saliency":
        assert result["curves"]["S_pq_share"]["at"] == list(range(1, 9))
        shares = [result["curves"][f"{flow}_share"]["values"] for flow in ("S_wp", "S_pq", "S_ww")]
        assert all(abs(sum(values) - 1) < 1e-9 for values in zip(*shares, strict=True))
        assert len(records(run)[0]["S_wp"]) == 8
    else:
        assert set(result["metrics"]) == {"accuracy", "macro_f1", "ece"}
    for path in (run / "figures").iterdir():
        assert path.read_bytes()[:4] in (b"\x89PNG", b"%PDF")
    assert {path.suffix for path in (run / "figures").iterdir()} == {".png", ".pdf"}
    status = json.loads((run / "status.json").read_text())
    assert (status["state"], status["progress"]) == ("completed", {"done": 6, "total": 6})


KINDS = [f"{what}_{where}_{k}" for what in ("label", "random") for where in ("first", "last") for k in (1, 3, 5, 7)]
COMPRESSED = ["full", "text_anchor", "hidden_anchor", "hidden_random", "hidden_random_top"]
LOYALTY = ("label_loyalty", "word_loyalty", "accuracy")
CONTRACT: dict[str, tuple[list[str], list[str], list[str]]] = {
    "isolation": (
        ["full", *KINDS],
        [f"{kind}/{measure}" for kind in KINDS for measure in LOYALTY],
        [f"{what}_{where}/{m}" for what in ("label", "random") for where in ("first", "last") for m in LOYALTY],
    ),
    "attention_prediction": (["full"], ["accuracy"], ["AUCROC", "R"]),
    "reweighting": (["vanilla", "reweighted"], ["vanilla/accuracy", "reweighted/accuracy"], ["train_loss"]),
    "compression": (
        COMPRESSED,
        [f"{name}/{m}" for name in COMPRESSED for m in (*LOYALTY, "speedup", "kept_tokens", "cache_bytes")],
        [],
    ),
    "diagnosis": (["full"], ["spearman"], ["spearman_by_layer"]),
}


@pytest.mark.parametrize("experiment", CONTRACT)
def test_every_experiment_of_the_first_paper_has_the_names_of_the_contract(
    tmp_path: Path, data: Path, experiment: str
) -> None:
    done = launch(*tiny(data, f"experiment={experiment}"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    run, (variants, metrics, curves) = tmp_path / "run", CONTRACT[experiment]
    result = without_timing(run)
    assert set(result["metrics"]) >= set(metrics)
    assert set(result["curves"]) >= set(curves)
    assert len({r["query"] for r in records(run)}) == 6
    for r in records(run):
        assert set(r["variants"]) >= set(variants)
        assert all(abs(sum(v["probs"]) - 1) < 1e-5 and len(v["top5"]) == 5 for v in r["variants"].values())
    assert list((run / "figures").glob("*.png"))
    if experiment == "attention_prediction":
        assert all(len(layer) == 2 for r in records(run) for layer in r["label_attention"])
    if experiment == "diagnosis":
        assert {"confusion", "predicted_confusion"} <= set(result["tables"])
        assert any("spearman is undefined" in note for note in result["notes"])  # two classes, one pair
        assert "note: spearman is undefined" in done.stderr
    if experiment == "reweighting":
        again = launch(*tiny(data, "experiment=reweighting", "experiment.beta=run", run_dir="again"), cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert without_timing(tmp_path / "again")["metrics"] == result["metrics"]
        other = ("experiment=reweighting", "experiment.beta=run", "model.heads=2")
        wrong = launch(*tiny(data, *other, run_dir="wrong"), cwd=tmp_path)
        assert "8 layers, 4 heads and 2 demonstrations; this run has 8 layers, 2 heads" in failed_politely(wrong)


def test_a_finished_run_returns_at_once_and_another_identity_is_refused(tmp_path: Path, data: Path) -> None:
    assert launch(*tiny(data), cwd=tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.json*")}
    again = launch(*tiny(data, "batch_tokens=99", "tracking=offline"), cwd=tmp_path)
    assert again.returncode == 0
    assert "already complete" in again.stderr
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.json*")}
    assert not (tmp_path / "run" / "wandb").exists()
    assert "another run" in failed_politely(launch(*tiny(data, "seed=43"), cwd=tmp_path))
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").glob("*.json*")}


def test_identity_is_of_what_changes_a_number_and_of_nothing_else(tmp_path: Path, data: Path) -> None:
    moved = write_dataset(tmp_path / "moved", train=12, test=8)

    def identity(name: str, *overrides: str, where: Path = data) -> str:
        done = launch(*tiny(where, "experiment.n_queries=2", *overrides, run_dir=name), cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        found = json.loads((tmp_path / name / "result.json").read_text())["identity"]
        assert isinstance(found, str)
        return found

    base = identity("base")
    assert base == identity(
        "same", "batch_tokens=64", "experiment.keep_examples=0", "tracking.project=other", where=moved
    )
    assert (
        len({base, identity("seed", "seed=1"), identity("dtype", "dtype=float64"), identity("k", "model.seed=3")}) == 4
    )


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("experiment.n_queries=9",), "n_queries is 9; local has 8 test examples"),
        (("experiment.n_queries=-1",), "n_queries is -1"),
        (("experiment.shots_per_class=7",), "shots_per_class is 7"),
        (("device=cuda:7",), "device is 'cuda:7'"),
        (("dataset.path=/no/where",), "dataset.path is '/no/where', which is not there"),
        (("=5",), "'=5' names no setting; allowed: NAME=VALUE"),
        (("tracking.mode=offline", "tracking.project=a/b:c"), "tracking: project is 'a/b:c'; W&B allows"),
        (("model=local", "model.path=/no/where"), "model.path is '/no/where'"),
        (("model=gpt2",), "the hub cannot be reached"),
        (
            ("experiment=isolation", "model.layers=5"),
            "first_or_last_k is [1, 3, 5, 7]; tiny has 5 layers, allowed: 1 to 5",
        ),
        (("experiment=diagnosis", "experiment.layer=9"), "experiment.layer is 9; tiny has 8 layers, allowed: 1 to 8"),
        (
            ("experiment=reweighting", "experiment.train_per_class=9"),
            "experiment.shots_per_class + experiment.train_per_class is 10; the train split",
        ),
        (("experiment=reweighting", "experiment.beta=/no/where"), "experiment.beta is '/no/where', which is not there"),
    ],
)
def test_a_users_mistake_is_one_sentence_and_leaves_no_directory(
    tmp_path: Path, data: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    done = launch(*tiny(data, *overrides), cwd=tmp_path)
    assert complaint in failed_politely(done)
    assert not (tmp_path / "run").exists()


def test_a_mistake_that_a_run_meets_on_its_way_is_one_sentence_and_its_log_has_the_traceback(
    tmp_path: Path, data: Path
) -> None:
    done = launch(*tiny(data, "dataset.label_words=[' Zebra',' Zoo']"), cwd=tmp_path)
    assert "begin with the same token" in failed_politely(done)
    assert "Traceback" in (tmp_path / "run" / "launch.log").read_text()
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (("model=gpt5",), "model is 'gpt5'; allowed: falcon-40b, falcon-40b-instruct, falcon-7b,"),
        (("-m", "dataset=sst2,sst3"), "dataset is 'sst3'; allowed: agnews,"),
        (("sweep=fig9",), "sweep is 'fig9'; allowed: appendix_semantically_empty_labels,"),
        (("+sweep=fig3_saliency",), "sweep is chosen twice; write sweep=fig3_saliency, without a plus"),
        (("modle=tiny",), "there is no modle; allowed: batch_tokens, dataset,"),
        (
            ("experiment.queries=5",),
            "there is no experiment.queries; allowed: backward_dtype, heads, keep_examples, keep_heads, n_queries, shards,",
        ),
        (("-m", "experiment.queries=5,6"), "there is no experiment.queries; allowed:"),
        (("-m", "experment.n_queries=5,6"), "there is no experment; allowed:"),
        (("seed=[1",), "'seed=[1' cannot be read"),
        (("dataset.label_words=[ é, b]",), """needs quotes: 'dataset.label_words=["é", b]'"""),
        (("model=openai-community/gpt2",), "on disk write model=local 'model.path=\"openai-community/gpt2\"'."),
        (("model=gpt-2",), "tiny. Did you mean gpt2?"),
        (("dataset=reviews.csv",), "your own files write dataset=local 'dataset.path=\"reviews.csv\"'."),
        (("dataset=stanfordnlp/imdb",), "dataset on the hub write dataset=hub 'dataset.id=\"stanfordnlp/imdb\"'."),
        (("experiment.n_query=5",), "Did you mean n_queries?"),
        (
            ("hydra/job_logging=loud",),
            "hydra/job_logging is 'loud'; allowed: anchorflow, default, disabled, none, stdout",
        ),
        (("model=null",), "a group's option is the name of a file in conf/ (model=tiny), not null"),
        (("~model",), "model is missing; every run needs it"),
        (("~seed",), "seed is missing; every run needs it"),
        (("-m", "~dataset", "seed=1,2"), "dataset is missing; every run needs it"),
        (("-m", "seed=range(0)"), "the sweep has no cells: one of its settings names no value"),
        (("-m", "model=glob(x*)"), "the sweep has no cells"),
        (("seed=1,2",), "'seed=1,2' names several values; add -m to run each of them"),
        (("sweep.dry_run=true",), "sweep.dry_run applies to sweeps, but this is a single run; add -m"),
        (("experiment.n_queries=${queries}",), "Interpolation key 'queries' not found"),
    ],
)
def test_what_cannot_be_composed_is_one_sentence_with_what_is_allowed(
    tmp_path: Path, overrides: tuple[str, ...], complaint: str
) -> None:
    done = launch(*overrides, cwd=tmp_path)
    assert complaint in failed_politely(done)
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"multirun.yaml"}


def test_a_traceback_is_there_for_the_asking(tmp_path: Path) -> None:
    assert "Traceback" in launch("model=gpt5", cwd=tmp_path, HYDRA_FULL_ERROR="1").stderr


@pytest.mark.parametrize("overrides", [("hydra.run.dir=file/run",), ("-m", "hydra.sweep.dir=file/sweep", "seed=1,2")])
def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    (tmp_path / "file").write_text("in the way")
    line = failed_politely(launch(*overrides, "model=tiny", cwd=tmp_path))
    assert "dir is 'file/" in line
    assert "cannot be made (Not a directory)" in line


def test_the_switch_for_sweeps_may_stand_anywhere(tmp_path: Path, data: Path) -> None:
    arguments = ("model=tiny", "dataset=local", f"dataset.path={data}", "experiment.n_queries=5")
    done = launch(*arguments, "-m", "seed=1,2", "sweep.dry_run=true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2     0       2" in done.stderr


def test_a_rehearsal_whose_cells_are_refused_fails(tmp_path: Path, data: Path) -> None:
    settings = (*tiny(data)[:-2], "experiment.n_queries=99,2", "sweep.dry_run=true")
    done = launch("-m", *[one for one in settings if not one.startswith("hydra.run")], cwd=tmp_path)
    assert "1 cell refused" in failed_politely(done)


def test_a_prompt_longer_than_the_context_is_refused_or_skipped_and_counted(tmp_path: Path, data: Path) -> None:
    with (data / "test.jsonl").open("a") as file:
        file.write(json.dumps({"text": "very " * 3000, "label": 0}) + "\n")
    refused = failed_politely(launch(*tiny(data, "experiment.n_queries=null"), cwd=tmp_path))
    assert "test row 8 has" in refused
    assert "the context of tiny is 2048" in refused
    done = launch(*tiny(data, "experiment.n_queries=null", "too_long=skip", run_dir="skipping"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "skipping 1 of 9 queries" in done.stderr
    assert without_timing(tmp_path / "skipping")["counts"] == {"queries": 8, "skipped": 1}
    assert [r["query"] for r in records(tmp_path / "skipping") if "skipped" in r] == [8]


def test_a_sweep_runs_its_cells_and_a_failing_one_does_not_stop_the_others(tmp_path: Path, data: Path) -> None:
    done = launch(
        *("-m", *on_tiny(data), "experiment.n_queries=99,2,3", "launcher=local"),
        cwd=tmp_path,
    )
    assert done.returncode != 0
    assert "n_queries is 99; local has 8" in done.stderr
    assert "Traceback" not in done.stderr
    results = list((tmp_path / "outputs").glob("saliency/tiny/local/seed42-*/result.json"))
    assert sorted(json.loads(path.read_text())["counts"]["queries"] for path in results) == [2, 3]
    single = launch(*on_tiny(data), "experiment.n_queries=2", cwd=tmp_path)
    assert "already complete" in single.stderr


def test_the_tracker_gets_the_run_its_figures_and_its_failure(tmp_path: Path, data: Path) -> None:
    done = launch(*tiny(data, "tracking=auto"), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    events = inspect(tmp_path / "run")
    identity = without_timing(tmp_path / "run")["identity"]
    assert of_kind(events, "run")[0]["run_id"] == identity
    assert "saliency_shares" in json.dumps(events)
    broken = launch(
        *tiny(data, "tracking=auto", "dataset.label_words=[' Zebra',' Zoo']", run_dir="broken"), cwd=tmp_path
    )
    assert broken.returncode == 1
    assert of_kind(inspect(tmp_path / "broken"), "exit")[0]["exit_code"] == 1
