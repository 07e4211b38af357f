"""
What peers may send and what becomes of it, a file each.

A file begins with `#!` lines: why it is here and what is expected. The rest are the bytes, with line ends and other
octets written as escapes, real line ends left out, and `<<text*number>>` for repetition.
"""
