"""From a method's name to jitted steps, and the loop over them."""
