"""The questions: every benchmark of the suite, each strategy beside the test that measures it."""
