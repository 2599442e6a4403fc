"""One model that holds several networks of a front, which share their weights, and switches between them."""
