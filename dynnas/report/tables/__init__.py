"""Tables of text: of fronts, spaces, cascades, and networks that were trained or compressed further."""
