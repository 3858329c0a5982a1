"""Near misses: the smallest changes that would have made a trigger fire, tried one by one."""
