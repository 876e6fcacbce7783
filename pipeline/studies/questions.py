"""The question that each study answers."""

from __future__ import annotations

# Each study's question, in the order of the report.
QUESTIONS = {
    "line_y2x": "Fit y = 2x with one weight and one bias: which rates reach 2, which run away?",
    "line_y3x": "Fit y = 3x from zero: smooth at 0.01, oscillating at 0.1, stuck at 1?",
    "two_bits": "Two weights and one sigmoid: what does the whole error surface look like, and the path down it?",
    "three_bits": "Seven rates, six orders of magnitude apart, and two hidden sizes: which rate ends lowest?",
    "thirteen_lines": "The 13-line network as it was published, rate 0.5 and four hidden units: where does it end?",
    "mnist": "A 784-1000-10 network under Adam at three rates: how smoothly does each learn, and how far?",
    "mnist_grid": "Does the best rate move with the hidden size?",
    "trainability_map": "A rate for each layer of the three-bit network: which pairs train it, and which do not?",
    "methods_three_bits": "Every method on the three-bit network: which rates can it use, how fast is it?",
    "methods_mnist": "Every method on MNIST: which rates can it use, how fast is it?",
    "features_mnist": "One feature of the network at a time, on MNIST: how does it change the rates that train it?",
    "lr_range_test": "One run in which the rate rises at every update: which rate does it suggest?",
    "lr_range_check": "Does the suggested rate train better than a tenth of it, and than ten times as much?",
    "width_transfer": "In which parametrization does the best rate stay the same as a network grows?",
    "curve_divergence": "Balls in a bowl: at which rate does each step overshoot farther than the one before?",
    "curve_stuck": "A ball on a shelf that is almost flat: is it stuck, and does a larger rate free it?",
    "curve_local_minimum": "A ball in the higher of two minima: which rates, and which momentum, get it out?",
    "curve_restarts": "100 balls dropped at random on a curve with five minima: do they end in exactly these?",
    "curve_basins": "In which of five minima does a ball end, by rate and start, and how does momentum change that?",
}
# The folder of the report that has a page for each study.
PAGES = "studies"
