"""From notebooks and sweeps to the published site."""
