"""The curvature of the loss: products with its Hessian, and the largest eigenvalues."""
