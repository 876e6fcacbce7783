"""Optimizers: formulas that turn the gradient into the change of the weights.

The formulas are Keras'. In the docstrings g is the gradient, w are the weights, u is the change that is added to them,
and t is the number of the update, counted from 1. Long names are hyperparameters. Report pages print the docstrings.

The formulas are computed in place, one ufunc at a time and without temporary arrays: for small networks every
allocation matters. The order of the operations determines the last bits of the results.
"""
