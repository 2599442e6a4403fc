"""From a network to what runs on a target."""
