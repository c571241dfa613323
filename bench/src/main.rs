//! Benchmarks of the Pollux packet path.

fn main() {}
