"""The claims of the Scan & Snap chapter, one module per notebook."""
