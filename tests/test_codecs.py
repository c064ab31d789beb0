"""Codecs are exact where they should be, conditioners map prompts as documented."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from warpkit.checks import InputError
from warpkit.features.codecs import ClassConditioner, UnshuffleCodec, VaeCodec
from warpkit.features.tiny import TINY_WEIGHTS, load_unet


def test_unshuffle_places_pixels_as_documented():
    image = torch.zeros(1, 3, 2, 4)
    image[0, 1, 1, 2] = 1.0  # green, row 1, column 2: block (0, 1), inside it row 1, column 0
    latent = UnshuffleCodec(2).encode(image)
    assert latent.shape == (1, 12, 1, 2)
    expected = torch.full((12, 1, 2), -1.0)
    expected[1 * 4 + 1 * 2 + 0, 0, 1] = 1.0
    assert torch.equal(latent[0], expected)


@settings(deadline=None, max_examples=20)
@given(factor=st.integers(1, 4), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_unshuffle_is_invertible(factor, rows, columns):
    codec = UnshuffleCodec(factor)
    image = torch.rand(2, 3, rows * factor, columns * factor)
    latent = codec.encode(image)
    assert latent.shape == (2, codec.channels, rows, columns)
    torch.testing.assert_close(codec.decode(latent), image, rtol=0, atol=1e-6)


def test_decoding_stays_within_the_range_of_colours():
    codec = UnshuffleCodec(1)
    decoded = codec.decode(torch.tensor([-3.0, 0.0, 3.0]).reshape(1, 3, 1, 1))
    assert decoded.flatten().tolist() == [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def vae():
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        norm_num_groups=4,
        scaling_factor=0.25,
    ).eval()


@torch.no_grad()
def test_vae_is_read_by_its_mode(vae):
    codec = VaeCodec(vae)
    assert (codec.factor, codec.channels, codec.scaling) == (4, 4, 0.25)
    images = torch.rand(2, 3, 8, 12, generator=torch.Generator().manual_seed(0))
    latent = codec.encode(images)
    assert latent.shape == (2, 4, 2, 3)
    assert torch.equal(latent, codec.encode(images))
    # The posterior's mode is its mean: the first half of the moments.
    moments = vae.quant_conv(vae.encoder(images * 2 - 1))
    torch.testing.assert_close(latent, moments[:, :4] * 0.25)
    decoded = codec.decode(latent)
    expected = (vae.decoder(vae.post_quant_conv(latent / 0.25)) + 1) / 2
    torch.testing.assert_close(decoded, expected.clamp(0, 1))


def test_classes_are_indices_and_the_empty_prompt_is_the_null_class():
    conditioning = ClassConditioner(["cat", "dog"], "cpu")(["dog", "", "cat"])
    assert conditioning["class_labels"].tolist() == [1, 2, 0]
    assert conditioning["encoder_hidden_states"] is None


def test_an_unknown_class_names_the_nearest():
    message = r"^unknown class 'dogs'. Did you mean 'dog'\? The model's classes are cat, dog$"
    with pytest.raises(InputError, match=message):
        ClassConditioner(["cat", "dog"], "cpu")(["dogs"])


def test_of_many_classes_a_few_are_named(capsys):
    names = [f"class-{n:03d}" for n in range(125)]
    with pytest.raises(InputError) as refused:
        ClassConditioner(names, "cpu")(["zebra"])
    message = str(refused.value)
    assert message.startswith("unknown class 'zebra'. The model has 125 classes, such as class-")
    assert message.count("class-") == 6
    # The command that it gives lists all.
    code = message.split('python -c "')[1].removesuffix('"')
    exec(code, {})
    assert capsys.readouterr().out.split() == list(load_unet(TINY_WEIGHTS)[1].classes)
