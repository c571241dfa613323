/* Why polluxd refused something. */
#ifndef POLLUX_IPVS_REASONS_H
#define POLLUX_IPVS_REASONS_H

#include <stddef.h>

/* Prints the reason that a received datagram gives, if it is one that the tool has no words for. */
void print_reason(const char *datagram, size_t length);

#endif
