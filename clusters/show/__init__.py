"""What a compiled cluster looks like: as text, as data, as a picture, beside another one."""
