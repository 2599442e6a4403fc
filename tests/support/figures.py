"""Looking at the pictures that are drawn."""

from matplotlib.axes import Axes


def legend(axes: Axes) -> list[str]:
    """The texts of a legend."""
    return [text.get_text() for text in axes.get_legend().get_texts()]
