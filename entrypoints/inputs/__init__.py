"""What is given and what is known: variables, arguments, recipes, and the facts under env/."""
