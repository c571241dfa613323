/* Connections to polluxd, and the C library's own functions behind the ones defined here. */
#ifndef POLLUX_IPVS_LINK_H
#define POLLUX_IPVS_LINK_H

#include <stdbool.h>

/* What a function of this library is called by the program. */
#define EXPORT __attribute__((visibility("default")))

/*
 * Declares `real_NAME`, a pointer to the function that NAME would be without this library, and looks it up on first use.
 * Two threads may do so at once: both find the same.
 */
#define REAL(name, result, ...)                                                                                         \
	static result (*real_##name)(__VA_ARGS__);                                                                          \
	if (!real_##name)                                                                                                   \
		*(void **)&real_##name = real_function(#name)

void *real_function(const char *name);

/*
 * Connects to polluxd. `type` is that of the socket the program asked for; of it, SOCK_CLOEXEC and SOCK_NONBLOCK count.
 * Returns the descriptor, or -1 with errno set. A polluxd that is just being restarted is waited for.
 */
int link_open(int type);

/* Puts a new connection in the place of a broken one, under the same descriptor. */
bool link_renew(int fd);

#endif
