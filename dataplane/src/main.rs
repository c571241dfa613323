//! The Pollux data plane: ports, workers, kernel mirror.

fn main() {}
