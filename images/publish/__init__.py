"""From built images to tags in a registry."""
