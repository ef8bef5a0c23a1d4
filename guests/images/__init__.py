"""Guest images: recipes (TOML), how they are built, and the cache of built ones."""
