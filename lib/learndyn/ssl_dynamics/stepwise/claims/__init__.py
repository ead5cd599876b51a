"""What the paper claims, notebook by notebook, and the checks that decide each claim."""
