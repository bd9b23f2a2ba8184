"""What a person reads of a bundle: the report page, the model card, the comparison of two."""
