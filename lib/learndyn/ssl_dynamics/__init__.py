"""Self-supervised learning as a dynamical system: what is learned, in what order, and when."""
