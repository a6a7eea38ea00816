"""What people find runs by: a name for every run, a group for every cell, and numbers that W&B can sort by."""

import re

import pytest

from anchorflow.errors import UserError
from anchorflow.experiments import LabelRelationships, Saliency
from anchorflow.models import Pretrained, Tiny
from anchorflow.settings import fingerprint
from anchorflow.tracking import Names, Tracking, name_run
from anchorflow.tracking.content import flat
from anchorflow.tracking.names import safe, safe_artifact


def named(experiment: object, model: object, seed: int = 42, dtype: str = "auto", data: str = "a") -> Names:
    counts = {"experiment": fingerprint(experiment), "model": fingerprint(model), "seed": seed, "data": data}
    return name_run("saliency", "m", "sst2", seed, replicates=True, counts=counts, dtype=dtype)


def test_a_name_has_what_differs_from_the_defaults_and_a_cell_all_that_counts_but_the_seed() -> None:
    plain = named(Saliency(), Tiny())
    assert re.fullmatch(r"saliency m sst2 seed42 [0-9a-f]{8}", plain.name)
    assert re.fullmatch(r"saliency m sst2 [0-9a-f]{8}", plain.cell)
    other = named(Saliency(shots_per_class=2, keep_examples=0, shards=3), Tiny(layers=2), dtype="bfloat16")
    assert re.fullmatch(r"saliency m sst2 shots_per_class=2 model.layers=2 dtype=bfloat16 [0-9a-f]{8}", other.cell)
    assert plain.group == plain.cell == named(Saliency(keep_examples=0), Tiny(), seed=43).cell
    assert plain.cell != named(Saliency(), Tiny(), data="b").cell, "of two data sets of one name"
    assert plain.cell != named(Saliency(), Tiny(seed=1)).cell
    assert plain.name != named(Saliency(), Tiny(seed=1)).name, "of two models of one name"


def test_a_setting_that_is_a_list_is_written_as_on_the_command_line_and_a_class_that_is_gone_is_no_matter() -> None:
    counts = {"experiment": fingerprint(LabelRelationships(regimes=("default", {"noise": 0.25}))), "model": {}}
    names = name_run("label_relationships", "m", "d", 1, replicates=False, counts=counts, dtype="auto")
    assert names.group == names.name
    assert names.name.startswith("label_relationships m d regimes=[default,{noise:0.25}] seed1 ")
    gone = {"experiment": {"_target_": "nowhere.Gone", "x": 1}}
    assert re.fullmatch(
        "e m d [0-9a-f]{8}", name_run("e", "m", "d", 1, replicates=True, counts=gone, dtype="auto").cell
    )


def test_what_a_models_name_says_is_not_said_twice(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = Pretrained(path=str(tmp_path), quantization="8bit")
    counts = {"model": {"_target_": "anchorflow.models.Pretrained", "quantization": "8bit"}}
    names = name_run("saliency", model.name, "d", 1, replicates=True, counts=counts, dtype="auto")
    assert "quantization" not in names.name


def test_a_project_that_wandb_would_refuse_is_refused_first(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"^project is 'a/b:c'; W&B allows up to 128 characters, none of them /"):
        Tracking(project="a/b:c")
    with pytest.raises(ValueError, match=r"^entity is 'me%'"):
        Tracking(entity="me%")
    monkeypatch.setenv("WANDB_PROJECT", "a#b")
    with pytest.raises(UserError, match=r"^WANDB_PROJECT is 'a#b'; W&B allows"):
        Tracking()
    assert Tracking(mode="none").project is None
    assert Tracking(project="icl").labels(Names("saliency", "m", "d", 1))["project"] == "icl"


def test_long_and_strange_names_are_made_to_fit() -> None:
    names = Names("saliency", "m" * 200, "a b/ü", 42, counted="0a1b2c3d")
    found = Tracking(tags=("t" * 65, "t" * 66, "", "saliency")).labels(names)
    assert all(0 < len(tag) <= 64 for tag in found["tags"])
    assert len(found["tags"]) == len(set(found["tags"])) == 4
    assert len(found["name"]) == 128
    assert found["name"].endswith(" seed42 0a1b2c3d")
    assert found["group"] == names.cell
    assert len(names.cell) <= 128
    assert names.cell.endswith(" 0a1b2c3d")
    assert safe_artifact("beta", "tiny", "a b/ü", "") == "beta-tiny-a-b--"
    assert flat({"seed": 2}, names, {"seed": 1, "deep": {}})["seed"] == 2


NAMES = (
    "default/accuracy",
    "noise_0.25/accuracy",
    "replaced_a.b_c/x",
    "replaced_a*b_c/x",
    "replaced_é_ü/x",
    "constant_ a/x",
)


def test_numbers_have_names_of_letters_digits_and_underscores_in_sections_and_no_two_share_one() -> None:
    found = [safe(name) for name in NAMES]
    assert all(re.fullmatch("[A-Za-z0-9_/]+", name) for name in found)
    assert len(set(found)) == len(found)
    assert found[:2] == ["default/accuracy", "noise_0_25/accuracy"]
    assert safe("replaced_é_ü/x") != safe("replaced_à_ô/x")


def test_the_environment_counts_where_the_configuration_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names("saliency", "tiny", "sst2", 42)
    plain = Tracking().labels(names)
    assert (plain["project"], plain["entity"], plain["name"], plain["group"], plain["job_type"]) == (
        *("anchorflow", None, "saliency tiny sst2 seed42"),
        *("saliency tiny sst2", "saliency"),
    )
    for key in ("PROJECT", "ENTITY", "NAME", "RUN_GROUP", "JOB_TYPE"):
        monkeypatch.setenv(f"WANDB_{key}", key.lower())
    monkeypatch.setenv("WANDB_TAGS", "x, y")
    told = Tracking().labels(names)
    assert told == {
        "project": "project",
        "entity": "entity",
        "name": "name",
        "group": "run_group",
        "job_type": "job_type",
        "tags": ["saliency", "tiny", "sst2", "x", "y"],
    }
    configured = Tracking(project="p", entity="e", group="g", tags=("mine",)).labels(names)
    assert [configured[key] for key in ("project", "entity", "group")] == ["p", "e", "g"]
    assert configured["tags"] == ["saliency", "tiny", "sst2", "mine"]
