"""Training backends, NumPy and Keras, behind one interface."""
