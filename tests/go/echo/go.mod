module continuum/echo

go 1.21
