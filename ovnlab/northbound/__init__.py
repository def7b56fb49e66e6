"""The logical network: the rows that a topology wants, those that are there, and the transaction between them."""
