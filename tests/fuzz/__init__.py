"""Files that nobody should trust, and what reads them: `make test-fuzz`. A small part of it is in `make test`."""
