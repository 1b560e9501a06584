"""A real server that speaks the providers' APIs and every fault of theirs."""
