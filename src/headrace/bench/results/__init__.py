"""From records to figures: steady window, rates, percentiles with intervals, validity gates, comparison, reports. Pure
but for files."""
