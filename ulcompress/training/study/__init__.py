"""Studies: a base and its variants, trained with the same seeds, measured and compared."""
