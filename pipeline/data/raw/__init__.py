"""The files of a data set as their publisher has them: fetched, checked, decoded."""
