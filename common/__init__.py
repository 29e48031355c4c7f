"""What every room of the host side stands on: errors in words, whole files, programs, YAML."""
