"""What flow-lens costs. Figures are ratios from interleaved runs, or program run time; none is a test."""
