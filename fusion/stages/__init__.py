"""The stages from a recipe to a bundle, each in the file of its name."""
