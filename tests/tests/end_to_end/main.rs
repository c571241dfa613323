//! Pollux from end to end: real clients, real servers, both daemons, DPDK ports, in the network namespaces of the lab.

mod applied_under_load;
mod bonds;
mod broken_frames;
mod changes_under_load;
mod dashboard;
mod errors;
mod fragments;
mod ftp;
mod health;
mod ipvs_tools;
mod marks;
mod methods;
mod neighbours;
mod path_mtu;
mod persistence;
mod ports;
mod real_servers;
mod restarts;
mod scale;
mod scheduling;
mod sctp;
mod take_over;
mod the_lab;
mod workers;
