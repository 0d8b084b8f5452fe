import pytest

from genomic_vit.config import ConfigError, RunConfig
from genomic_vit.config_tree import from_tree


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"slab": {"tile_px": 4}}, "slab.tile_px is 4; it must be at least 8"),
        ({"slab": {"crop_mm": 0}}, "slab.crop_mm is 0; it must be positive"),
        ({"slab": {"margin_mm": -1}}, "slab.margin_mm is -1"),
        ({"slab": {"slice_step_mm": 0}}, "slab.slice_step_mm is 0; give millimetres above 0, or null"),
        ({"slab": {"context_slices": 9}}, "slab.context_slices is 9; it must be 0 to 8"),
        ({"view": {"window_hu": [100, -100]}}, "give the lower HU first"),
        ({"view": {"eval_stride": 10}}, "view.eval_stride is 10; 1 to 9"),
        ({"augment": {"noise_hu": -1}}, "augment.noise_hu is -1"),
        ({"augment": {"scale": 1.0}}, "augment.scale is 1.0; it must be below 1"),
        ({"vit": {"width": 10, "heads": 4}}, "vit.width 10 must be a multiple of vit.heads 4"),
        ({"vit": {"depth": 0}}, "vit.depth is 0"),
        ({"vit": {"dropout": 1.0}}, "vit.dropout is 1.0"),
        ({"vit": {"patch_px": 7}}, "slab.tile_px 32 must be a multiple of vit.patch_px 7"),
        ({"rollout": {"residual": 1.0}}, "rollout.residual is 1.0; it must be between 0 and 1"),
        (
            {"rollout": {"residual": 1e-5, "learn_residual": True}},
            "residual is 1e-05 with rollout.learn_residual; one that is learnt must be between 0.0001 and 0.9999",
        ),
        ({"cnn": {"dropout": -0.1}}, "cnn.dropout is -0.1"),
        ({"training": {"epochs": 0}}, "training.epochs is 0"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate is 0"),
        ({"training": {"learning_rate": float("inf")}}, "learning_rate is inf; it must be positive, and finite"),
        ({"training": {"lesion_weight": -1}}, "training.lesion_weight is -1"),
        ({"split": {"folds": 1}}, "split.folds is 1; at least 2"),
        ({"split": {"folds": 3, "fold": 3}}, "split.fold is 3; folds are counted 0 to 2"),
        ({"split": {"validation": 0.5}}, "split.validation is 0.5"),
        ({"phantom": {"signal": 2}}, "phantom.signal is 2"),
        ({"positive": "Mutant"}, "give both, or neither"),
        ({"data": "cases.csv"}, "data is given without target"),
        ({"slab": 3}, "my.yaml: slab holds int, a mapping of settings was needed"),
        ({"vit": {"dept": 3}}, "my.yaml: unknown setting vit.dept; did you mean vit.depth"),
        ({"zzz": 3}, "my.yaml: unknown setting zzz; known: mode, data"),
        ({"training": {"epochs": "two"}}, "my.yaml: training.epochs is 'two'; a whole number is needed"),
        ({"training": {"learning_rate": "2,5e-3"}}, "learning_rate is '2,5e-3'; a number with a dot for decimals"),
        ({"labels": {"min_cases": None}}, "labels.min_cases is None; a whole number is needed"),
        ({"view": {"window_hu": -1350}}, "view.window_hu is -1350; a list is needed"),
        ({"positive": True, "negative": False}, "my.yaml: positive is True; a text in quotes is needed"),
    ],
)
def test_impossible_settings_are_refused_by_name(tree, message):
    with pytest.raises(ConfigError, match=message):
        from_tree(tree, "my.yaml")


def test_what_is_not_given_keeps_its_default():
    config = from_tree({"vit": {"depth": 5}, "target": "EGFR, KRAS", "data": "x.csv"}, "my.yaml")
    assert config.vit.depth == 5 and config.vit.width == RunConfig().vit.width
    assert config.targets == ("EGFR", "KRAS")


def test_what_yaml_reads_as_another_kind_is_turned_where_nothing_is_lost():
    tree = {"training": {"learning_rate": "2e-3", "epochs": 3}, "positive": 1, "negative": 0, "lesion": {"roi": 2}}
    config = from_tree(tree | {"view": {"window_hu": [-1000, 400]}, "slab": {"crop_mm": 30}}, "my.yaml")
    assert config.training.learning_rate == 2e-3 and config.slab.crop_mm == 30.0
    assert (config.positive, config.negative, config.lesion.roi) == ("1", "0", "2")
    assert config.view.window_hu == (-1000.0, 400.0)
