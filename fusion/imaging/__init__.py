"""Medical images in numpy: read, place in the world, harmonise, hash. No Django."""
