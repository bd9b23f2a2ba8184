"""The parts that families are built from. Names and shapes are those of the papers."""
