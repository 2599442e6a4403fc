"""One module for each form in which images are found; `find.read` chooses among them."""
