def summary_lines(t,b,s): return [str(s)]
