"""Search over the catalog: one query object, two engines, one answer."""
