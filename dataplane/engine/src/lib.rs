//! What happens to a packet: tables, packets and time in, packets out.
