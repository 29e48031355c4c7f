"""The pages of docs/reference/, rendered from the data that the images and the commands use."""
