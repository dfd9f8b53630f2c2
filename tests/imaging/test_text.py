"""Letters in pictures are noticed; what is no text is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from fusion.imaging.io import read_image
from fusion.imaging.text import rows_of_letters

BURNED = ("busi/benign/images/benign (3).png", "busi/benign/images/benign (52).png")
CLEAN = ("busi/benign/images/benign (100).png", "busi/benign/images/benign (101).png")


def picture(words: str, size: int, *, dark: bool = False) -> np.ndarray:
    """Speckle with words on it."""
    rng = np.random.default_rng(3)
    noise = rng.normal(0, 1, (300, 400))
    smooth = np.cumsum(np.cumsum(noise, 0), 1)
    grey = 40 + 60 * (smooth - smooth.min()) / np.ptp(smooth) + rng.normal(0, 6, smooth.shape)
    image = Image.fromarray((255 - grey if dark else grey).clip(0, 255).astype(np.uint8))
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text((30, 200), words, fill=0 if dark else 255, font=font)
    return np.asarray(image)


@pytest.mark.parametrize("size", [12, 14, 18, 24, 32])
@pytest.mark.parametrize("dark", [False, True], ids=["bright", "dark"])
def test_words_are_seen_bright_on_dark_and_dark_on_bright(size, dark):
    assert rows_of_letters(picture("SMITH 12-03-1987", size, dark=dark))


def test_words_in_colour_and_in_deep_pixels_are_seen():
    grey = picture("Mueller, A. 0045821", 18)
    colour = np.stack([grey // 2, grey, grey // 2], axis=-1)

    assert rows_of_letters(colour)
    assert rows_of_letters(grey.astype(np.uint16) * 257)


def test_a_picture_without_words_a_single_letter_and_one_value_are_no_text():
    assert not rows_of_letters(picture("", 18))
    assert not rows_of_letters(picture("L", 32))
    assert not rows_of_letters(np.full((40, 50), 7, np.uint8))
    assert not rows_of_letters(np.zeros((1, 1), np.float32))


@pytest.mark.parametrize("name", [*BURNED, *CLEAN])
def test_ultrasound_with_words_is_told_from_that_without(name, shared_data):
    found = rows_of_letters(read_image(shared_data / "breast_ultrasound" / name).array)

    assert bool(found) == (name in BURNED)
