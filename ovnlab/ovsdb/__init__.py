"""Access to OVSDB: the one place that knows where databases are and reads them."""
