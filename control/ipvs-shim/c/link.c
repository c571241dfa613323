/*
 * The way to polluxd: a Unix socket that keeps messages apart (SOCK_SEQPACKET), at the path in POLLUX_IPVS_SOCKET.
 */
#define _GNU_SOURCE
#include "link.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* How long a polluxd that is being restarted is waited for: pauses of 50 ms. */
enum { PAUSES_MAX = 60, PAUSE_NS = 50 * 1000 * 1000 };

void *real_function(const char *name)
{
	void *found = dlsym(RTLD_NEXT, name);

	/* Without the C library's own function nothing can go on, and there is nothing to return that a caller expects. */
	if (!found)
		abort();
	return found;
}

/* No socket, or nobody behind it: so it is for the moment between two polluxd. */
static bool may_come_back(int error)
{
	return error == ENOENT || error == ECONNREFUSED;
}

static bool address_of_polluxd(struct sockaddr_un *address)
{
	const char *path = getenv("POLLUX_IPVS_SOCKET");

	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (!path || strlen(path) >= sizeof(address->sun_path)) {
		errno = path ? ENAMETOOLONG : ENOENT;
		return false;
	}
	strcpy(address->sun_path, path);
	return true;
}

int link_open(int type)
{
	REAL(socket, int, int, int, int);
	REAL(close, int, int);
	const int flags = type & (SOCK_CLOEXEC | SOCK_NONBLOCK);
	const struct timespec pause = { .tv_nsec = PAUSE_NS };
	struct sockaddr_un address;

	if (!address_of_polluxd(&address))
		return -1;
	for (int pauses = 0;; pauses++) {
		int fd = real_socket(AF_UNIX, SOCK_SEQPACKET | flags, 0);

		if (fd < 0)
			return -1;
		if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
			return fd;

		int error = errno;

		real_close(fd);
		errno = error;
		if (!may_come_back(error) || pauses == PAUSES_MAX)
			return -1;
		nanosleep(&pause, NULL);
	}
}

bool link_renew(int fd)
{
	REAL(close, int, int);
	int descriptor = fcntl(fd, F_GETFD);
	int status = fcntl(fd, F_GETFL);

	if (descriptor < 0 || status < 0)
		return false;

	int type = (descriptor & FD_CLOEXEC ? SOCK_CLOEXEC : 0) | (status & O_NONBLOCK ? SOCK_NONBLOCK : 0);
	int fresh = link_open(type);

	if (fresh < 0)
		return false;

	bool moved = dup3(fresh, fd, descriptor & FD_CLOEXEC ? O_CLOEXEC : 0) == fd;

	real_close(fresh);
	return moved;
}
