"""Files of requests, answered line by line: each line of the input becomes one row of the output, an error too."""
