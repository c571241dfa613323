//! End-to-end tests of Pollux in network namespaces.
