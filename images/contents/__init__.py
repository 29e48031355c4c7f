"""What is inside an image: its layers' files, its packages, its roles and recipes."""
