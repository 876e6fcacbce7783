"""The report that git's HEAD has beside the one that is here: which of its values came out again."""
