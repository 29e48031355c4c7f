"""From the inputs to what runs on a node: environment, command, ports."""
