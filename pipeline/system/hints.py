"""Find the key or the option that was probably meant by one that does not exist."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

# What other programs and texts call our keys: the last part of a key, in lower case; or the whole, where several
# sections have one of that name.
SYNONYMS = {
    **dict.fromkeys(("lr", "alpha", "eta", "rate", "step_size", "stepsize", "learningrate"), "learning_rate"),
    **dict.fromkeys(("units", "neurons", "nodes", "hidden", "width", "size", "hidden_dim"), "hidden_size"),
    **dict.fromkeys(("hidden_units", "hidden_neurons", "hidden_nodes", "n_hidden", "num_hidden"), "hidden_size"),
    **dict.fromkeys(("layers", "hidden_layers", "hidden_sizes", "hidden_layer_sizes"), "further_hidden_sizes"),
    **dict.fromkeys(("depth", "num_layers", "n_layers"), "further_hidden_sizes"),
    **dict.fromkeys(("activation", "activation_function", "nonlinearity"), "hidden_activation"),
    **dict.fromkeys(("init", "initialization", "kernel_initializer", "weight_init"), "initializer"),
    **dict.fromkeys(("bn", "batchnorm", "batch_norm"), "batch_normalization"),
    **dict.fromkeys(("dropout_rate", "drop", "p_drop"), "dropout"),
    **dict.fromkeys(("dropconnect",), "drop_connect"),
    **dict.fromkeys(("use_bias", "biases"), "bias"),
    **dict.fromkeys(("batch", "batchsize", "bs", "minibatch", "minibatch_size", "mini_batch_size"), "batch_size"),
    **dict.fromkeys(("epoch", "n_epochs", "num_epochs", "max_epochs", "nb_epoch"), "epochs"),
    **dict.fromkeys(("iterations", "iters", "max_iter", "steps", "num_steps"), "epochs"),
    **dict.fromkeys(("rows", "samples", "n_samples", "examples", "n_rows", "train_size"), "training.rows"),
    **dict.fromkeys(("lasso", "l1_penalty", "l1_reg"), "l1"),
    **dict.fromkeys(("ridge", "l2_penalty", "l2_reg", "lambda", "reg", "regularization", "penalty"), "l2"),
    **dict.fromkeys(("clip", "clipnorm", "grad_clip", "max_grad_norm", "gradient_clip", "max_norm"), "clip_norm"),
    **dict.fromkeys(("clipvalue", "grad_clip_value"), "clip_value"),
    **dict.fromkeys(("mu", "mom"), "momentum"),
    **dict.fromkeys(("beta", "betas", "beta1", "b1"), "beta_1"),
    **dict.fromkeys(("beta2", "b2"), "beta_2"),
    **dict.fromkeys(("eps",), "epsilon"),
    **dict.fromkeys(("wd", "decay"), "weight_decay"),
    **dict.fromkeys(("warmup", "warmup_share"), "warm_up"),
    **dict.fromkeys(("optim", "opt", "solver", "algorithm", "method"), "optimizer"),
    **dict.fromkeys(("scheduler", "lr_schedule", "lr_scheduler", "learning_rate_schedule"), "schedule"),
    **dict.fromkeys(("dataset", "data_set", "datasets"), "data"),
    **dict.fromkeys(("net", "network", "arch", "architecture"), "model"),
    **dict.fromkeys(("engine", "framework"), "backend"),
    **dict.fromkeys(("device", "cuda", "gpu"), "array_module"),
    **dict.fromkeys(("exp", "experiments"), "experiment"),
    **dict.fromkeys(("experiment_name", "study_name"), "study"),
    **dict.fromkeys(("random_state", "random_seed", "rng"), "seed"),
    **dict.fromkeys(("precision", "float_type", "data_type"), "dtype"),
    **dict.fromkeys(("criterion", "objective", "loss_function", "cost"), "loss"),
    **dict.fromkeys(("output_dir", "out_dir", "outdir", "save_dir", "result"), "results"),
    **dict.fromkeys(("tracking_uri", "mlflow_uri", "url", "server"), "uri"),
    **dict.fromkeys(("retrain", "overwrite"), "force"),
    **dict.fromkeys(("dryrun", "dry"), "dry_run"),
    **dict.fromkeys(("num_threads", "n_jobs", "jobs", "cpus", "cores"), "threads"),
}
# The same for the options of groups, and for other names that are values of keys; only their letters and digits.
OPTION_SYNONYMS = {
    "tensorflow": "keras",
    "tf": "keras",
    "gd": "sgd",
    "gradientdescent": "sgd",
    "nag": "nesterov",
    "fashion": "fashion_mnist",
    "stepdecay": "step",
    "steplr": "step",
    "exponentialdecay": "exponential",
    "exponentiallr": "exponential",
    "cosineannealing": "cosine",
    "cosinedecay": "cosine",
    "mse": "mean_squared_error",
    "ce": "cross_entropy",
    "categoricalcrossentropy": "cross_entropy",
    "sparsecategoricalcrossentropy": "cross_entropy",
    "bce": "binary_cross_entropy",
    "logloss": "binary_cross_entropy",
    "mae": "mean_absolute_error",
    "xavier": "glorot_uniform",
    "xavieruniform": "glorot_uniform",
    "xaviernormal": "glorot_normal",
    "kaiming": "he_normal",
    "kaiminguniform": "he_uniform",
    "kaimingnormal": "he_normal",
    "zeros": "constant",
    "logistic": "sigmoid",
    "linear": "identity",
    "single": "float32",
    "float": "float32",
    "fp32": "float32",
    "double": "float64",
    "fp64": "float64",
    "mup": "maximal_update",
    "backprop": "backpropagation",
}


def nearest_key(unknown: str, keys: Collection[str]) -> str | None:
    """Return the key that was probably meant, or None if that can only be guessed.

    Args:
        unknown: the full name of a key that does not exist.
        keys: the full names of those that do.

    Example:
        >>> nearest_key("optimizer.lr", ["optimizer.learning_rate", "optimizer.rho"])
        'optimizer.learning_rate'
    """
    section, _, typed = unknown.rpartition(".")
    # A value has no keys, as in `optimizer.learning_rate.initial`.
    if section in keys and not any(key.startswith(f"{section}.") for key in keys):
        return section
    name = typed.lower().replace("-", "_")
    here = [key for key in keys if key.rpartition(".")[0] == section]
    for candidates in (here, keys):
        for meant in (name, SYNONYMS.get(name, name)):
            found = [key for key in candidates if meant in (_last(key), key)]
            if len(found) == 1:
                return found[0]
    # A key of another section has to be more similar. It is meant if no key of this one is nearly the same.
    for candidates, cutoff in ((here, 0.85), (keys, 0.8), (here, 0.7)):
        similar = difflib.get_close_matches(name, {_last(key) for key in candidates}, n=1, cutoff=cutoff)
        # Several sections may have a key of this name; then any guess would be arbitrary.
        found = [key for key in candidates if [_last(key)] == similar]
        if len(found) == 1:
            return found[0]
    return None


def nearest_option(unknown: str, options: Collection[str]) -> str | None:
    """Return the option of a group, or the value of a key, that was probably meant, or None."""
    by_letters = {_letters(option): option for option in options}
    letters = _letters(unknown)
    synonym = OPTION_SYNONYMS.get(letters)
    if synonym in options:
        return synonym
    similar = difflib.get_close_matches(letters, by_letters, n=1)
    if similar:
        return by_letters[similar[0]]
    return None


def _last(key: str) -> str:
    return key.rpartition(".")[2]


def _letters(text: str) -> str:
    """Return the letters and digits of a name in lower case: names are often written with other characters between."""
    return re.sub(r"[^a-z0-9]", "", text.lower())
