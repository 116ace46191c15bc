"""Charts of a report as inline SVG, drawn by matplotlib; a module for each kind of chart."""
