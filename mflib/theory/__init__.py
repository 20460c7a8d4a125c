"""Mean-field theory of wide random networks: float64, vectorised, without torch.

``activations`` names the functions φ, ``gaussian`` takes their expectations, ``mean_field`` gives
the maps, fixed points, depth scales and the critical line, ``sigmoid`` proves Theorem 1,
``isometry`` has the spectra of Jacobians, ``convolution`` the covariances between places,
``residual`` the critical line of residual networks; ``stable`` has the stable laws and ``levy``
the lengths and eigenvalues of networks with heavy tails.
"""
