"""Speed, as ratios of interleaved pairs within one run. Nothing here decides a test: machines are shared and noisy."""
