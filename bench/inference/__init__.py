"""How fast does a network infer here, under each way of running it in parallel?"""
