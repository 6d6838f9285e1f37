"""What is done with copies that are there already."""
