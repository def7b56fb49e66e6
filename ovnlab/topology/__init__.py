"""The topology: what a file may say (`model`), and what a lab is made of once all is decided (`resolved`)."""
