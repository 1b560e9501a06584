"""The commands of `aibridge` but for the servers: each file adds its own to the parser, and acts them out."""
