//! The types on both Pollux sockets: commands, answers, configuration.
