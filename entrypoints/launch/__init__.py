"""From the inputs to what runs on this node: environment, command, ports."""
