import dataclasses

import pytest
import torch

from bruno import UserError
from bruno.data.sets import dequantise, rotate
from bruno.evaluation import encode_dataset, encode_rotations
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_model


def test_encodes_each_image_as_the_model_does_in_batches(model, dataset):
    reports = []
    z, log_det = encode_dataset(
        model,
        dataset.images,
        generator=generator_for(4),
        batch_size=7,
        progress=lambda *report: reports.append(report),
    )
    generator = generator_for(4)
    parts = [dequantise(part, generator) for part in dataset.images.split(7)]
    expected_z, expected_log_det = model(torch.cat(parts))
    torch.testing.assert_close(z, expected_z)
    torch.testing.assert_close(log_det, expected_log_det)
    assert log_det.dtype == torch.float64
    assert not z.requires_grad
    assert reports[-1] == ("encoding", 30, 30)
    assert len(reports) == 5


def test_rotations_are_encodings_of_rotated_images(model, dataset):
    encoded = encode_rotations(model, dataset, rotations=True)
    assert encoded.shape == (4, 30, 64)
    expected = model.encode(dequantise(rotate(dataset.images, 2), None))
    torch.testing.assert_close(encoded[2], expected)
    assert encode_rotations(model, dataset, rotations=False).shape == (1, 30, 64)


def test_context_reaches_the_flow(dataset):
    model = make_model(context_dim=2)
    context = torch.randn(len(dataset), 2, generator=torch.Generator().manual_seed(0))
    with_context = dataclasses.replace(dataset, context=context)
    assert encode_rotations(model, with_context, rotations=False).shape == (1, 30, 64)
    with pytest.raises(UserError, match="context: this model needs one"):
        encode_rotations(model, dataset, rotations=False)


def test_errors(model, dataset):
    with pytest.raises(UserError, match="images: expected uint8"):
        encode_dataset(model, dataset.images.float(), generator=generator_for(0))
    with pytest.raises(UserError, match="at least one"):
        encode_dataset(model, dataset.images[:0], generator=generator_for(0))
    oblong = dataclasses.replace(dataset, images=dataset.images[..., :6])
    with pytest.raises(UserError, match="square"):
        encode_rotations(model, oblong, rotations=True)
