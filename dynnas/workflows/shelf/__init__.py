"""Networks from elsewhere: made by name, timed, and trained as those of a study are."""
