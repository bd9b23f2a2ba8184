"""The fastest or smallest form of a model inside a budget: what is wanted, tried and chosen."""
