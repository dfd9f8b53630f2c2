"""Medical images in numpy: read, place in the world, harmonise, hash. A plain library, no Django."""
