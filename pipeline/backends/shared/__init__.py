"""Code that both backends share: initial weights, schedules, and the record of a training run."""
