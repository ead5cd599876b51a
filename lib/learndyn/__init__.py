"""Learning Dynamics: the library behind the executable book."""
__version__ = "0.1.0"
