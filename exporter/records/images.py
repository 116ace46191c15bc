"""Where the user's images come from, and how they became inputs."""

from msgspec import Struct

MOST_NAMED = 3


class PicturePreprocessing(Struct, frozen=True):
    """How a picture becomes an input: resized, cropped at the centre, scaled to 0..1, then ``(x - mean) / std``.

    Attributes:
        colour: "RGB" or "BGR", or "grey" for networks with one channel.
        resize: the shorter side, or (height, width).
        crop: (height, width) of the input.
        interpolation: "bilinear" or "bicubic", antialiased.
        mean, std: of each channel, in the order of RGB.
    """

    colour: str
    resize: tuple[int, ...]
    crop: tuple[int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __str__(self) -> str:
        height, width = self.crop
        size = f"shorter side {self.resize[0]}" if len(self.resize) == 1 else "x".join(map(str, self.resize))
        crop = "" if self.resize == self.crop else f", centre crop {height}x{width}"
        return f"{self.colour}, resized to {size} ({self.interpolation}){crop}, {self._values}"

    @property
    def _values(self) -> str:
        if not any(self.mean) and len(set(self.std)) == 1:
            return f"values 0 to {1 / self.std[0]:g}"
        mean, std = (", ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean}, std {std}"


class ImageSource(Struct, frozen=True):
    """The user's images: their path, empty for arrays of a caller, and what was done to pictures."""

    path: str
    images: int
    left_out: tuple[str, ...] = ()
    preprocessing: PicturePreprocessing | None = None
    notes: tuple[str, ...] = ()

    @property
    def sentences(self) -> list[str]:
        """What was done to them, and what wasn't."""
        sentences = [str(self.preprocessing)] if self.preprocessing else []
        if self.left_out:
            others = len(self.left_out) - MOST_NAMED
            names = ", ".join(self.left_out[:MOST_NAMED]) + (f" and {others} more" if others > 0 else "")
            sentences.append(f"left out, because it is no picture: {names}")
        return [f"{self.path or 'images'}: {sentence}" for sentence in (*sentences, *self.notes)]
