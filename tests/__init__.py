"""Everything that shows the product works: real databases, real processes, no twins."""
