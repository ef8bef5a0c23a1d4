"""The cases, a package for each layer and a module for each family."""
