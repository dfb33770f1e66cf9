"""Tables, plots and the page that show a run."""
