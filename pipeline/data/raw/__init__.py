"""The raw files of a data set, as published: download, check and decode them."""
