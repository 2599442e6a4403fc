"""Tables and pictures of spaces and studies."""
