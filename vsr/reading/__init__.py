"""Reading files: opening them and saying why not, what header and first picture say, finding a time in them."""
