"""Images in three disjoint splits."""
