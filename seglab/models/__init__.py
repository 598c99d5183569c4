"""Networks: the zoo's table, the architectures, and the bundles they are saved in."""
