"""From the scripts that people have to a recipe and a cluster file that plan the same."""
