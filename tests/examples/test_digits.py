"""The digits example: its split is fixed, and the two checkpoints are as good as they are said to be."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from attn_export.exporter.checkpoint.load import load
from attn_export.exporter.images.preprocessing import PictureOptions
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.system.progress import NullProgress
from attn_export.exporter.workflows.evaluate import evaluate, labelled_images

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
CHECKPOINTS = [("se_digits.pt", "se_resnet8"), ("cbam_digits.pt", "cbam_resnet8")]


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn", reason="scikit-learn, which brings the images, is not installed")
    sys.path.insert(0, str(FOLDER))  # as running train.py does
    yield importlib.import_module("digits")
    sys.path.remove(str(FOLDER))


def test_no_image_is_in_both_parts_and_none_is_lost(digits):
    training, held_out = digits.load()
    assert (len(training), len(held_out)) == (1347, 450)
    both = torch.cat([training.images, held_out.images]).flatten(1)
    assert len(both.unique(dim=0)) == 1797


def test_the_split_is_always_the_same_and_fair_to_every_digit(digits):
    first, second = digits.load(), digits.load()
    assert torch.equal(first[1].images, second[1].images)
    assert torch.equal(first[1].labels, second[1].labels)
    assert all(43 <= count <= 46 for count in first[1].labels.bincount().tolist())


def test_images_are_grey_small_and_between_0_and_1(digits):
    images = digits.load()[0].images
    assert images.shape[1:] == (1, 16, 16)
    assert images.dtype == torch.float32
    assert (images.min(), images.max()) == (0, 1)


def test_normalized_training_images_have_mean_0_and_deviation_1(digits):
    training, _ = digits.load()
    inputs = training.inputs(digits.normalization_of(training))
    assert inputs.mean().item() == pytest.approx(0, abs=1e-5)
    assert inputs.std().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("file", "name"), CHECKPOINTS)
def test_the_checkpoint_says_what_it_is(file, name):
    model = load(FOLDER / file)
    assert model.name == name
    assert model.inputs[0].shape[1:] == (1, 16, 16)
    assert model.class_names == tuple("0123456789")
    assert model.normalization is not None
    assert (FOLDER / file).stat().st_size < 1_000_000


@pytest.mark.parametrize(("file", "name"), CHECKPOINTS)
def test_the_checkpoint_reads_at_least_98_percent_of_the_held_out_digits(digits, file, name):
    model = load(FOLDER / file)
    training, held_out = digits.load()
    assert model.normalization == digits.normalization_of(training)
    with torch.no_grad():
        correct = model.module(held_out.inputs(model.normalization)).argmax(1) == held_out.labels
    assert correct.float().mean() >= 0.98


def test_pictures_of_the_held_out_digits_give_the_figures_of_the_readme(digits, tmp_path):
    """Resized and normalized as the checkpoint says, from 8-bit pictures."""
    importlib.import_module("class_folders").write(tmp_path)
    progress = NullProgress()
    for file, right in (("se_digits.pt", 447), ("cbam_digits.pt", 448)):
        model = load(FOLDER / file)
        labelled = labelled_images(model, tmp_path / "held-out", PictureOptions(), (), progress)
        evaluation = evaluate(model, {}, labelled, None, Settings(1), progress)
        assert evaluation.source.images == 450
        assert evaluation.results[0].top1 == right / 450
