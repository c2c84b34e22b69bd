"""A regular package, because some distributions leave a `tests` of their own in site-packages."""
