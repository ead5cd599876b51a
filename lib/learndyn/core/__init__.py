"""What every chapter stands on: configs, devices, ensembles, records, claims, figures."""
