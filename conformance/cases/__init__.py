"""The cases, a package for each layer and a module for each family; what cases there are, and who decides them."""
