"""The claims of the CoGO chapter, one module per notebook."""
