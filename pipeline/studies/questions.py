"""The question that each study answers."""

from __future__ import annotations

# Each study's question, in the order of the report.
QUESTIONS = {
    "line_y2x": "Fit y = 2x with one weight and one bias: which rates converge to 2, and which diverge?",
    "line_y3x": "Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?",
    "two_bits": "Two weights and one sigmoid: what do the error surface and the path down it look like?",
    "three_bits": "Seven rates over six orders of magnitude, two hidden sizes: which rate ends with the lowest error?",
    "thirteen_lines": "The original 13-line network (rate 0.5, four hidden units): what error does it reach?",
    "mnist": "A 784-1000-10 network under Adam at three rates: how smoothly does each train, how good is the result?",
    "mnist_grid": "Does the best rate move with the hidden size?",
    "trainability_map": "A rate for each layer of the three-bit network: which pairs train it, and which do not?",
    "methods_three_bits": "Which rates work for each method on the three-bit network, and how fast is it?",
    "methods_mnist": "Which rates work for each method on MNIST, and how fast is it?",
    "features_mnist": "One feature of the network at a time, on MNIST: how does it change the range of usable rates?",
    "lr_range_test": "Which rate does a learning-rate range test suggest?",
    "lr_range_check": "Does the suggested rate train better than rates ten times smaller and larger?",
    "width_transfer": "In which parametrization does the best rate stay constant as the network gets wider?",
    "curve_divergence": "Balls in a bowl: at which rate does each step overshoot farther than the one before?",
    "curve_stuck": "A ball on a shelf that is almost flat: is it stuck, and does a larger rate free it?",
    "curve_local_minimum": "A ball in the higher of two minima: which rates, and which momentum, get it out?",
    "curve_restarts": "100 balls dropped at random on a curve with five minima: do they all end in these minima?",
    "curve_basins": "Which of five minima does a ball reach, by rate and start, and how does momentum change that?",
}
