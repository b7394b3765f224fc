"""`vsr bench`: how fast the engine is alone, each stage alone, and a whole job, and how near that is to the limit."""
