"""People's judgements: the store, assignment, quality, aggregation, import and export. No torch."""
