"""The linear model of an object, and the network's look at it, beside label propagation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from warpkit.checks import InputError
from warpkit.features.foreground import ForegroundModel, around_box
from warpkit.propagate.label_config import LabelConfig
from warpkit.propagate.label_decision import decide_labels
from warpkit.propagate.labels import Annotation, LabelPropagator
from warpkit.propagate.object_model import ObjectModel, cell_features, object_scores
from warpkit.propagate.objectness import object_evidence
from warpkit.types import DescriptorMap


def cells_of(seed: int, h: int = 9, w: int = 12, channels: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(h, w, channels, generator=generator)


def soft_box(h: int = 9, w: int = 12) -> torch.Tensor:
    soft = torch.zeros(1, h, w)
    soft[0, 2:5, 3:8] = 1
    return soft


def test_the_model_is_the_ridge_regression_of_balanced_cells():
    cells, soft = cells_of(0), soft_box()
    soft[0, 5, 3:8] = 0.4
    model = ObjectModel(penalty=0.01)
    model.annotate(cells, soft)
    features, share = cell_features(cells).double(), soft.flatten().double()
    weight = (share / share.sum() + (1 - share) / (1 - share).sum()) / 2
    # Least squares over rows scaled by their weights, with rows for the penalty.
    left = torch.cat([weight.sqrt()[:, None] * features, 0.1 * torch.eye(features.shape[1])])
    right = torch.cat([weight.sqrt() * (2 * share - 1), torch.zeros(features.shape[1])])
    expected = torch.linalg.lstsq(left, right[:, None]).solution[:, 0]
    torch.testing.assert_close(model.coefficients()[0].double(), expected, rtol=1e-3, atol=1e-4)


def test_every_object_has_the_model_that_it_would_have_alone():
    cells = cells_of(0, 24, 40, 70)
    soft = torch.zeros(3, 24, 40)
    soft[0, 2:6, 3:9] = soft[1, 10:20, 12:30] = soft[2, 3:8, 25:38] = 1
    together = ObjectModel(penalty=0.001)
    together.annotate(cells, soft)
    for k in range(3):
        alone = ObjectModel(penalty=0.001)
        alone.annotate(cells, soft[k : k + 1])
        torch.testing.assert_close(
            together.coefficients()[k], alone.coefficients()[0], rtol=1e-3, atol=1e-3
        )


def test_scores_are_the_products_of_features():
    cells = cells_of(1)
    coefficients = cells_of(2, 1, 3, 2 * 5 + 1)[0] / 10
    features = cell_features(cells)
    expected = (features @ coefficients.T).clamp(-1.5, 1.5).T.reshape(3, 9, 12)
    torch.testing.assert_close(object_scores(cells, coefficients), expected)
    # A cell's surroundings are 5 x 5 cells, those of the border repeated.
    torch.testing.assert_close(
        features.view(9, 12, -1)[4, 6, 5:10], cells[2:7, 4:9].mean(dim=(0, 1))
    )
    assert (features[:, -1] == 1).all()


def test_certain_frames_teach_and_are_forgotten():
    model = ObjectModel(penalty=0.01)
    model.annotate(cells_of(0), soft_box())
    before = model.coefficients()
    model.update(cells_of(3), 0.7 * soft_box(), rate=0.5)  # nowhere certain enough
    torch.testing.assert_close(model.coefficients(), before)
    model.update(cells_of(3), soft_box(), rate=0.5)
    taught = ObjectModel(penalty=0.01)
    taught.annotate(cells_of(0), soft_box())
    taught.annotate(cells_of(3), soft_box())
    both = model.coefficients()
    assert (both - before).norm() > 0.1 * before.norm()
    # Half an annotated frame moves the model towards what a whole one makes of it.
    assert (both - taught.coefficients()).norm() < (before - taught.coefficients()).norm()
    learned = model.updates
    model.update(cells_of(4), 0 * soft_box(), rate=0.5)  # teaches nothing, and time goes by
    torch.testing.assert_close(model.updates, 0.95 * learned)
    model.forget()
    torch.testing.assert_close(model.coefficients(), before)


def two_looks(seed: int = 0) -> tuple[DescriptorMap, DescriptorMap, np.ndarray]:
    """A frame, and one whose object has changed into what looks like parts of its background.

    Object and background are of eight kinds each. The first channel tells one from the other, the
    others tell kinds, so that the nearest cells of the changed object are the background's.
    """
    generator = torch.Generator().manual_seed(seed)
    labels = np.zeros((32, 48), np.uint8)
    labels[8:20, 16:32] = 1
    inside = torch.from_numpy(labels[::2, ::2] > 0)
    kind = torch.randint(1, 9, (16, 24), generator=generator)
    first, second = torch.randn(2, 17, 16, 24, generator=generator) * 0.02
    for frame, kinds in ((first, kind + 8 * ~inside), (second, kind + 8)):
        frame += torch.nn.functional.one_hot(kinds, 17).permute(2, 0, 1)
        frame[0] += torch.where(inside, 0.5, -0.5)
    return (
        DescriptorMap.covering(first, height=32, width=48),
        DescriptorMap.covering(second, height=32, width=48),
        labels,
    )


def settings(**others: float) -> LabelConfig:
    plain = {"colour": 0.0, "sharpen": 0.0, "annotated_bias": 0.0, "ridge": 0.0}
    return LabelConfig(**(plain | {"ridge_similarity": 0.0} | others))


@pytest.mark.parametrize("how", [{"ridge": 10.0}, {"ridge_similarity": 0.5}])
def test_what_tells_an_object_finds_it_where_its_likeness_is_elsewhere(how):
    first, second, labels = two_looks()
    overlaps = []
    for config in (settings(), settings(**how)):
        propagator = LabelPropagator(config, [1])
        propagator.annotate(first, labels)
        found = propagator.step(second).labels
        overlaps.append((found & labels).sum() / (found | labels).sum())
    assert overlaps[0] < 0.2
    assert overlaps[1] > 0.8


def test_a_propagator_with_models_goes_on_bit_for_bit():
    first, second, labels = two_looks()
    config = settings(ridge=1.0, ridge_similarity=0.2, ridge_rate=0.5)
    whole = LabelPropagator(config, [1])
    whole.annotate(first, labels)
    for frame in (first, second):
        whole.step(frame)
    kept = whole.state()
    assert kept["updates"].shape == (1, 35, 36)
    resumed = LabelPropagator(config, [1])
    resumed.restore(kept, [first, second], [Annotation(first, labels)])
    expected = whole.step(second)
    assert torch.equal(resumed.step(second).soft, expected.soft)
    whole.forget()
    assert "updates" not in whole.state()


def test_evidence_of_a_look_counts_where_it_agrees():
    frame = DescriptorMap.covering(torch.zeros(1, 10, 20), height=40, width=80)
    image = np.zeros((40, 80, 3), np.uint8)
    soft = torch.zeros(3, 10, 20)
    soft[0, 2:6, 4:10] = 0.9
    soft[1, 2:6, 12:18] = 0.9
    asked = []

    def look(picture, box):
        assert picture is image
        asked.append(box)
        region = around_box(box, height=40, width=80)
        y, x = np.mgrid[region]
        # All of the first object and half a cell more; of the second one a corner.
        thing = (y >= 8) & (y < 24) & (x >= 16) & (x < 42)
        if box[0] > 40:
            thing = (y < 12) & (x < 52)
        return region, torch.from_numpy(np.where(thing, 5.0, -5.0)).float()

    evidence = object_evidence(soft, frame, image, look)
    # The box of cells 4..9 x 2..5 is 16..39 x 8..23, and a twentieth of 23 more on every side.
    np.testing.assert_allclose(asked[0], (14.85, 6.85, 40.15, 24.15))
    assert len(asked) == 2
    assert evidence.cells[0, 3, 9] == 3
    assert evidence.cells[0, 8, 1] == -3
    assert (evidence.cells[1:] == 0).all()
    # The object ends at x = 42, in the middle of a cell: its mean is 0, its pixels are 3 and -3.
    assert evidence.cells[0, 3, 10] == 0
    assert (evidence.finer[0, 14, 40:42] > 0).all()
    assert (evidence.finer[0, 14, 42:44] < 0).all()
    assert evidence.finer[0, 14, 25] == 0
    assert (evidence.finer[1:] == 0).all()


def test_finer_evidence_moves_borders_and_makes_no_object():
    grid = DescriptorMap.covering(torch.zeros(1, 1, 4), height=4, width=16)
    soft = torch.tensor([[[1.0, 0.6, 0, 0]], [[0.0, 0, 0, 0]]])
    image = np.zeros((4, 16, 3), np.uint8)
    config = settings()
    before = decide_labels(soft, grid, image, [1, 2], config).labels
    assert (before == [[1] * 7 + [0] * 9]).all()
    finer = torch.full((2, 4, 16), 3.0)
    finer[0, :, 6:] = -3
    after = decide_labels(soft, grid, image, [1, 2], config, finer).labels
    assert (after == [[1] * 6 + [0] * 10]).all()


@pytest.fixture(scope="module")
def foreground() -> ForegroundModel:
    return ForegroundModel(torch.device("cpu"))


def test_a_look_at_a_box_sees_the_object_in_it(foreground):
    y, x = np.mgrid[:120, :160]
    image = np.random.default_rng(0).integers(90, 110, (120, 160, 3)).astype(np.uint8)
    disc = (x - 70) ** 2 + (y - 60) ** 2 < 30**2
    image[disc] = (220, 40, 30)
    region, logits = foreground.at_box(image, (40.0, 30.0, 100.0, 90.0))
    assert region == (slice(17, 104), slice(27, 114))
    assert logits.shape == (87, 87)
    seen, expected = logits.numpy() > 0, disc[region]
    assert (seen & expected).sum() / (seen | expected).sum() > 0.8


@pytest.mark.parametrize("name", ["ridge", "ridge_similarity", "ridge_rate", "objectness"])
def test_weights_below_zero_are_refused(name):
    with pytest.raises(InputError, match=f"{name} must be 0 or more, got -1"):
        LabelConfig(**{name: -1})


def test_a_penalty_of_zero_is_refused():
    with pytest.raises(InputError, match="ridge_penalty must be positive, got 0"):
        LabelConfig(ridge_penalty=0)
