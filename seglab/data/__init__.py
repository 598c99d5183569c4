"""Pictures, prepared datasets and where they come from."""
