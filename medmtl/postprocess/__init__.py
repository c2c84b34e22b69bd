"""From logits on the network grid to masks, measurements and decisions. Knows only `core`."""
