"""Configurations: the original project's file as it is, ours, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agelens.errors import NotFoundError, UsageError
from agelens.training.augment import AugmentConfig
from agelens.training.config_file import (
    BOUNDS,
    make_config,
    merge,
    parse_setting,
    read_config_file,
    to_values,
    write_config,
)
from command import run

ORIGINAL = """
DATA:
  DATA_DIR: ./data
  OUTPUT_DIR: ./output

HYPERPARAMETERS:
  OPTIMIZER:
    NAME: SGD
    MOMENTUM: 0.9
    WT_DECAY: 0.0005
    LR: 0.005
  EPOCHS: 60
  LOSS: CROSS_ENTROPY_LOSS
  BATCH_SIZE: 64
  PLOT_IMG: True

DATALOADER:
  DATASET_NAME: adience
  VALIDATION_SPLIT: 0.1

GPU:
  STATUS: True
  DEVICES: [0, 1, 2]
  PARALLEL: True

TEST:
  FACE_MODEL: face.caffemodel
  FACE_PROTO: face.prototxt
  AGE_MODEL: age_net.caffemodel
  AGE_PROTO: age_deploy.prototxt
"""


def load(path: Path, text: str, name: str = "config.yaml") -> Path:
    file = path / name
    file.write_text(text)
    return file


@pytest.mark.parametrize("spelling", [str, str.lower, str.title])
def test_the_original_file_loads_as_it_is_in_any_case(tmp_path: Path, spelling) -> None:
    lines = [
        spelling(key) + ":" + value if colon else key
        for key, colon, value in (line.partition(":") for line in ORIGINAL.splitlines())
    ]
    config = make_config(read_config_file(load(tmp_path, "\n".join(lines))))
    hyper = config.hyperparameters
    assert (hyper.optimizer.name, hyper.optimizer.momentum) == ("sgd", 0.9)
    assert (hyper.optimizer.wt_decay, hyper.optimizer.lr) == (0.0005, 0.005)
    assert (hyper.epochs, hyper.loss, hyper.batch_size, hyper.plot_img) == (60, "cross_entropy", 64, True)
    assert (config.data.data_dir, config.data.output_dir) == ("./data", "./output")
    assert (config.dataloader.dataset_name, config.dataloader.validation_split) == ("adience", 0.1)
    assert (config.gpu.status, config.gpu.devices, config.gpu.parallel) == (True, (0, 1, 2), True)
    assert len(config.test) == 4
    assert config.network.name == "levi-hassner"  # the network that its loss belongs to
    assert config.augment.flip == 0.5
    assert config.augment.light == 0


def test_each_network_has_its_own_recipe() -> None:
    face, levi = make_config({}), make_config({"network": {"name": "levi_hassner"}})
    assert (face.network.name, face.hyperparameters.optimizer.name) == ("face", "adamw")
    assert (levi.network.name, levi.hyperparameters.optimizer.name) == ("levi-hassner", "sgd")
    assert levi.hyperparameters.loss == "cross_entropy"
    mixed = make_config({"network": {"name": "levi-hassner"}, "hyperparameters": {"optimizer": {"lr": 0.1}}})
    assert mixed.hyperparameters.optimizer.lr == 0.1
    assert mixed.hyperparameters.optimizer.wt_decay == 0.0005


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("HYPERPARAMETERS:\n  EPOCH: 3", "no setting HYPERPARAMETERS.EPOCH; did you mean HYPERPARAMETERS.EPOCHS?"),
        ("HYPERPARAMETER:\n  EPOCHS: 3", "did you mean HYPERPARAMETERS?"),
        ("HYPERPARAMETERS:\n  OPTIMIZER:\n    RL: 3", "HYPERPARAMETERS.OPTIMIZER.RL"),
        ("HYPERPARAMETERS:\n  EPOCHS: many", "HYPERPARAMETERS.EPOCHS is a whole number, got 'many'"),
        ("HYPERPARAMETERS:\n  EPOCHS: 1.5", "whole number"),
        ("HYPERPARAMETERS:\n  EPOCHS: 0", "must lie within 1"),
        ("HYPERPARAMETERS:\n  EPOCHS: true", "whole number"),
        ("HYPERPARAMETERS:\n  PATIENCE: -1", "HYPERPARAMETERS.PATIENCE is -1; it must lie within 0"),
        ("HYPERPARAMETERS:\n  SEED: -1", "HYPERPARAMETERS.SEED is -1; it must lie within 0"),
        ("HYPERPARAMETERS:\n  GENDER_WEIGHT: 0", "--age-gender age learns no gender"),
        ("HYPERPARAMETERS:\n  GENDER_WEIGHT: -0.5", "HYPERPARAMETERS.GENDER_WEIGHT is -0.5"),
        ("HYPERPARAMETERS:\n  OPTIMIZER:\n    MOMENTUM: 1", "HYPERPARAMETERS.OPTIMIZER.MOMENTUM is 1.0"),
        ("HYPERPARAMETERS:\n  OPTIMIZER:\n    WT_DECAY: -1", "HYPERPARAMETERS.OPTIMIZER.WT_DECAY is -1.0"),
        ("HYPERPARAMETERS:\n  OPTIMIZER:\n    CLIP: -1", "HYPERPARAMETERS.OPTIMIZER.CLIP is -1.0"),
        ("NETWORK:\n  DROPOUT: 1.5", "NETWORK.DROPOUT is 1.5; it must be -1"),
        ("NETWORK:\n  DROPOUT: 1", "NETWORK.DROPOUT is 1.0"),
        ("NETWORK:\n  DROPOUT: -0.5", "NETWORK.DROPOUT is -0.5"),
        ("DATA:\n  TEST_FOLD: -2", "DATA.TEST_FOLD is -2"),
        ("GPU:\n  THREADS: -1", "GPU.THREADS is -1"),
        ("AUGMENT:\n  LIGHT: 2", "AUGMENT.LIGHT is 2.0; it must lie within 0 and 1"),
        ("AUGMENT:\n  ZOOM: 1", "AUGMENT.ZOOM is 1.0"),
        ("HYPERPARAMETERS:\n  OPTIMIZER:\n    LR: .nan", "is a number"),
        ("HYPERPARAMETERS:\n  LOSS: ordinl", "did you mean ordinal?"),
        ("HYPERPARAMETERS: 3", "is a section"),
        ("GPU:\n  STATUS: maybe", "true or false"),
        ("GPU:\n  DEVICES: [a]", "list of whole numbers"),
        ("NETWORK:\n  SIZE: huge", "NETWORK.SIZE knows no 'huge'"),
        ("[1, 2]", "holds no sections"),
        ("a: b: c", "is no YAML"),
        ("Data: {}\nDATA: {}", "twice"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_config(read_config_file(load(tmp_path, text)))
    assert message in caught.value.message


def test_every_change_of_crops_has_its_bounds() -> None:
    for name in AugmentConfig.__slots__:
        low, high = BOUNDS[f"AUGMENT.{name.upper()}"]
        for value in (low, high):
            assert getattr(make_config({"augment": {name: value}}).augment, name) == value
        for value in (low - 0.01, high + 0.01):
            with pytest.raises(UsageError, match=f"AUGMENT.{name.upper()} is {value}; it must lie within 0 and"):
                make_config({"augment": {name: value}})


@pytest.mark.parametrize("dropout", [-1, 0, 0.5])
def test_a_dropout_is_a_share_or_the_networks_own(dropout: float) -> None:
    assert make_config({"network": {"dropout": dropout}}).network.dropout == dropout


def test_numbers_may_be_written_as_people_write_them(tmp_path: Path) -> None:
    text = 'HYPERPARAMETERS:\n  OPTIMIZER:\n    LR: 5e-3\n  EPOCHS: "12"\nGPU:\n  DEVICES: "0,1"\n  STATUS: off\n'
    config = make_config(read_config_file(load(tmp_path, text)))
    assert config.hyperparameters.optimizer.lr == 0.005
    assert config.hyperparameters.epochs == 12
    assert config.gpu.devices == (0, 1)
    assert config.gpu.status is False


def test_toml_says_the_same(tmp_path: Path) -> None:
    text = "[hyperparameters]\nepochs = 3\n[hyperparameters.optimizer]\nlr = 0.1\n[gpu]\ndevices = [1]\n"
    config = make_config(read_config_file(load(tmp_path, text, "c.toml")))
    assert (config.hyperparameters.epochs, config.hyperparameters.optimizer.lr) == (3, 0.1)
    assert config.gpu.devices == (1,)
    with pytest.raises(UsageError, match="is no TOML"):
        read_config_file(load(tmp_path, "a = ", "d.toml"))


@pytest.mark.parametrize("network", ["face", "levi-hassner"])
def test_what_is_printed_reads_back_as_the_same(tmp_path: Path, network: str) -> None:
    config = make_config({"network": {"name": network}})
    text = write_config(config)
    assert make_config(read_config_file(load(tmp_path, text))) == config
    assert all("#" in line or line.strip().endswith(":") or "AUGMENT" in text for line in text.splitlines())


def test_later_layers_win_and_a_setting_reaches_any_key() -> None:
    layers = merge({"hyperparameters": {"epochs": 1, "seed": 5}}, parse_setting("HYPERPARAMETERS.Epochs=7"))
    assert make_config(layers).hyperparameters.epochs == 7
    assert make_config(layers).hyperparameters.seed == 5
    assert make_config(parse_setting("gpu.devices=[2, 3]")).gpu.devices == (2, 3)
    assert make_config(parse_setting("gpu.bf16=false")).gpu.bf16 is False
    with pytest.raises(UsageError, match=r"SECTION\.KEY=VALUE"):
        parse_setting("EPOCHS")


def test_values_are_plain_and_make_the_same_configuration() -> None:
    config = make_config({"network": {"name": "levi-hassner"}})
    lowered = {"hyperparameters": {"epochs": to_values(config)["HYPERPARAMETERS"]["EPOCHS"]}}
    assert make_config(lowered).hyperparameters.epochs == 60


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--print-config"):
        read_config_file(tmp_path / "none.yaml")


def test_print_config_is_the_default_and_options_override_it(tmp_path: Path) -> None:
    shown = run("train", "--print-config", "--epochs", "3", "--set", "AUGMENT.FLIP=0")
    assert shown.returncode == 0
    config = make_config(read_config_file(load(tmp_path, shown.stdout)))
    assert config.hyperparameters.epochs == 3
    assert config.augment.flip == 0
    assert config.hyperparameters.loss == "distribution"
    wrong = run("train", "--print-config", "--set", "AUGMENT.FLOP=0")
    assert wrong.returncode == 2
    assert "did you mean AUGMENT.FLIP?" in wrong.stderr
