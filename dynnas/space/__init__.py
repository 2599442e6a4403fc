"""Design spaces: genes, conditions and architectures, with the pure functions that draw and vary them."""
