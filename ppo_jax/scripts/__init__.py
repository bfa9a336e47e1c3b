"""The command-line scripts; they alone may import everything."""
