"""A lent GPU, used to the minute: what it needs is packed ahead, steps run by priority, results
are put where they belong (docs/gpu.md)."""
