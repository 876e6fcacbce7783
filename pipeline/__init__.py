"""What the learning rate and the hidden size do to training: commands, and the packages that they are made of."""

from pipeline.system import environment

environment.apply()
