"""One file for each command of the command line: parse, call one function of the library, print."""
