"""Charts of a record as inline SVG, drawn by matplotlib, a file for each kind. They draw, and find out nothing."""
