"""The tests, one folder for each part of the product; `support` is what several share."""
