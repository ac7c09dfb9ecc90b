"""Training's options: what is taken, and what is refused before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.training.settings import Settings, parse_settings
from models import InputError
from models.choice import DataChoice, parse_data, parse_folder


def test_the_defaults_are_the_issues():
    assert parse_settings() == Settings(
        epochs=1, batch_size=32, lr=0.01, momentum=0.9, optimizer="sgd"
    )


def test_every_setting_is_taken():
    assert parse_settings("10", "64", "1e-3", "0", "sgd") == Settings(10, 64, 0.001, 0.0, "sgd")
    assert parse_settings(optimizer=" adam ", lr=".5").optimizer == "adam"
    assert parse_settings(lr=" 2 ").lr == 2.0


@pytest.mark.parametrize("name", ["epochs", "batch_size"])
@pytest.mark.parametrize("text", ["0", "-1", "1.5", "", "1,2", "many"])
def test_a_number_that_is_no_count_is_refused(name, text):
    option = "--" + name.replace("_", "-")
    with pytest.raises(InputError, match=f"{option} must be a whole number of at least 1"):
        parse_settings(**{name: text})


@pytest.mark.parametrize(
    "text", ["0", "-0.1", "nan", "inf", "-inf", "1e999", "", "fast", "1_0", "٣", "0,01"]
)
def test_a_rate_that_cannot_be_trained_with_is_refused(text):
    with pytest.raises(InputError, match=r"--lr must be a number above 0, such as 0\.01 or 1e-3"):
        parse_settings(lr=text)


@pytest.mark.parametrize("text", ["1", "-0.1", "nan", "inf", "", "0_1", "0.9.9"])
def test_a_momentum_that_never_settles_is_refused(text):
    with pytest.raises(InputError, match="--momentum must be a number from 0 to below 1"):
        parse_settings(momentum=text)


@pytest.mark.parametrize("text", ["", "SGD", "adamw", "sgd,adam"])
def test_an_unknown_optimizer_is_refused(text):
    with pytest.raises(InputError, match="--optimizer must be sgd or adam; got"):
        parse_settings(optimizer=text)


def test_a_momentum_is_not_silently_dropped_by_adam():
    with pytest.raises(InputError, match=r"--momentum 0\.5: adam takes none; leave it out"):
        parse_settings(momentum="0.5", optimizer="adam")


def test_the_choice_of_data_is_taken():
    assert parse_data(None, None, download=False) == DataChoice()
    assert parse_data("a/b", "12", download=True) == DataChoice(Path("a/b"), 12, True)


@pytest.mark.parametrize("text", ["0", "-3", "half", "1.0", ""])
def test_a_subset_that_is_no_count_is_refused(text):
    with pytest.raises(InputError, match="--subset must be a whole number of at least 1"):
        parse_data(None, text, download=False)


def test_a_download_without_a_place_to_put_it_is_refused():
    with pytest.raises(InputError, match="--download: say with --data-dir DIR where"):
        parse_data(None, None, download=True)


@pytest.mark.parametrize("text", ["", "  "])
def test_an_empty_folder_name_is_not_the_current_folder(text):
    with pytest.raises(InputError, match="--data-dir must name a folder"):
        parse_data(text, None, download=False)
    with pytest.raises(InputError, match="--checkpoint-dir must name a folder"):
        parse_folder("--checkpoint-dir", text)
