"""Random spaces for property tests."""

from hypothesis import strategies as st

from dynnas.space.gene import Gene
from dynnas.space.space import Space


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Spaces of up to seven genes with up to three values, under conditions on up to two earlier ones."""
    genes: list[Gene] = []
    for index in range(draw(st.integers(1, 7))):
        parents = draw(st.lists(st.sampled_from(genes), max_size=2, unique=True)) if genes else []
        subsets = [st.lists(st.sampled_from(parent.values), min_size=1, unique=True) for parent in parents]
        condition = tuple(
            (parent.name, tuple(draw(subset))) for parent, subset in zip(parents, subsets, strict=True)
        )
        values = draw(st.sampled_from([(1,), (1, 2), (1, 2, 3), ("a",), ("a", "b"), (0.5, 1.5, 3.0)]))
        genes.append(Gene(f"gene{index}", values, condition, ordered="a" not in values))
    return Space("random", tuple(genes))
