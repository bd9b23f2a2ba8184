"""The verbs, a file each: export, quantize, verify, bench, inspect, compare, train."""
